"""Calls of one route over kept connections, at a fraction of what a general client takes for itself."""

import asyncio
import re

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class Caller:
    """Posts JSON to one route, each call over a connection of its own that is kept for later ones."""

    def __init__(self, host: str, port: int, path: str, key: str) -> None:
        self._address = host, port
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nX-API-Key: {key}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self._idle: list[_Line] = []

    async def post(self, body: bytes) -> tuple[int, bytes]:
        """Give status and body of the answer; raises ConnectionError when there is none."""
        self._idle = [line for line in self._idle if not line.is_closed]
        line = self._idle.pop() if self._idle else await self._connected()
        told = await line.ask(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))
        self._idle.append(line)
        return told

    def close(self) -> None:
        """Close what is kept."""
        while self._idle:
            self._idle.pop().close()

    async def _connected(self) -> "_Line":
        _, line = await asyncio.get_running_loop().create_connection(_Line, *self._address)
        return line


class _Line(asyncio.Protocol):
    """One connection, one call at a time; answers have a length."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._seen = bytearray()
        self._told: asyncio.Future[tuple[int, bytes]] | None = None

    @property
    def is_closed(self) -> bool:
        return self._transport.is_closing()

    def ask(self, request: bytes) -> asyncio.Future[tuple[int, bytes]]:
        self._told = asyncio.get_running_loop().create_future()
        self._transport.write(request)  # type: ignore[attr-defined]  # a stream's transport
        return self._told

    def data_received(self, data: bytes) -> None:
        self._seen += data
        end = self._seen.find(b"\r\n\r\n") + 4
        length = _LENGTH.search(self._seen, 0, end) if end >= 4 else None
        if length is None or len(self._seen) < end + int(length[1]) or self._told is None:
            return
        self._told.set_result((int(self._seen[9:12]), bytes(self._seen[end:])))
        self._seen.clear()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._told is not None and not self._told.done():
            self._told.set_exception(ConnectionError("the server closed the connection without an answer"))

    def close(self) -> None:
        self._transport.close()
