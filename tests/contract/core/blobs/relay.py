"""A line to a server that stalls or breaks where a test wants it to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Relay:
    """Passes bytes on both ways until one direction has passed its number."""

    def __init__(self, target: str) -> None:
        self._target = urlsplit(target)
        self._left: dict[str, float] = {}
        self._breaks = 0
        self._mended, self._over = asyncio.Event(), asyncio.Event()
        self._open: list[asyncio.Event] = []
        self.endpoint = ""
        self.reached = asyncio.Event()
        self.mend()

    def stall(self, direction: str, after_bytes: int) -> None:
        """Pass nothing on once so many bytes more went that way, until `mend`."""
        self._left[direction] = after_bytes
        self._mended.clear()

    def cut(self, direction: str, after_bytes: int, *, times: int) -> None:
        """Break the line once so many bytes more went that way, and the next lines at once, so many in all."""
        self._left[direction], self._breaks = after_bytes, times

    def mend(self) -> None:
        self._left = {"up": float("inf"), "down": float("inf")}
        self._mended.set()

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._target.hostname, self._target.port)
        ways = (self._copy("up", reader, back), self._copy("down", there, writer), self._over.wait())
        lines = [asyncio.ensure_future(way) for way in ways]
        self._open.append(ended := asyncio.Event())
        try:
            await asyncio.wait(lines, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for line in lines:
                line.cancel()
            await asyncio.gather(*lines, return_exceptions=True)
            for end in (back, writer):
                end.transport.abort()
                with suppress(OSError):
                    await end.wait_closed()
            ended.set()

    async def close(self) -> None:
        """End all lines, and wait for that."""
        self._over.set()
        for ended in self._open:
            await ended.wait()

    async def _copy(self, direction: str, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while piece := await source.read(1 << 16):
            self._left[direction] -= len(piece)
            if self._left[direction] < 0:
                self.reached.set()
                if self._breaks:
                    self._breaks -= 1
                    if not self._breaks:
                        self.mend()
                    return
                await self._mended.wait()
            target.write(piece)
            await target.drain()


@asynccontextmanager
async def relayed(target: str) -> AsyncIterator[Relay]:
    """Listen on a free port until the block ends."""
    relay = Relay(target)
    server = await asyncio.start_server(relay.pass_on, "127.0.0.1", 0)
    relay.endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        await relay.close()
