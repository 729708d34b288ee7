"""A server of plain bytes: says what its script says to every request, and counts."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import Enum, auto

from trainyard.core import wire

HEADERS = {"Content-Type": "application/json"}
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


class Act(Enum):
    """What is no bytes."""

    CLOSE = auto()
    HANG = auto()
    PAUSE = auto()
    RESET = auto()


Step = bytes | Act


class Server:
    """Listens on a free port.

    Attributes:
        scripts: One per request, the last of them again and again.
        connections: Accepted so far.
        requests: Heads and bodies.
        asked: Set once a request has come.
        gone: Set once a client has left a server that hung.
    """

    def __init__(self, *scripts: Sequence[Step]) -> None:
        self.scripts = list(scripts)
        self.connections = 0
        self.requests: list[tuple[bytes, bytes]] = []
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()
        self.port = 0
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def listening(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator["Server"]:
        """Serve until the end."""
        server = await asyncio.start_server(self._serve, host, 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            self.close_all()
            await asyncio.sleep(0)

    def close_all(self) -> None:
        """Close the connections that stand."""
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while not writer.is_closing():
                await self._answer(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(int(head.rpartition(b"Content-Length: ")[2]))
        self.requests.append((head, body))
        self.asked.set()
        for step in self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]:
            if isinstance(step, bytes):
                writer.write(step)
                await writer.drain()
            else:
                await self._act(step, reader, writer)

    async def _act(self, act: Act, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if act is Act.PAUSE:
            await asyncio.sleep(0.01)
        elif act is Act.HANG:
            await reader.readexactly(1)
        elif act is Act.RESET:
            writer.transport.abort()
        else:
            writer.close()


class Client:
    """Sends requests to one server, as upstreams do."""

    def __init__(self, url: str, pool: wire.Pool) -> None:
        self.pool = pool
        self.origin = wire.Origin(url)
        self.peer = pool.peer(self.origin)

    async def connection(self, timeout_s: float = 5.0) -> wire.Connection:
        """Take a kept connection or open one."""
        now_s = asyncio.get_running_loop().time()
        return self.peer.take(now_s) or await self.peer.connect(timeout_s, now_s + timeout_s + 1)

    async def begin(self, body: bytes = b"{}", timeout_s: float = 5.0) -> wire.Connection:
        """Send a request and wait for the first block of its answer; who calls it gives the connection back."""
        connection = await self.connection(timeout_s)
        await connection.ask(self.origin.head("/x", HEADERS), body, now_s() + timeout_s)
        return connection

    async def whole(
        self, body: bytes = b"{}", timeout_s: float = 5.0, most_bytes: int = 1 << 20
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        """Send a request and read its answer."""
        connection = await self.connection(timeout_s)
        try:
            deadline_s = now_s() + timeout_s
            await connection.ask(self.origin.head("/x", HEADERS), body, deadline_s, most_bytes)
            answer = connection.answer
            taken = answer.take()
            while block := await connection.read(deadline_s):
                taken += block
            return answer.status, answer.headers, taken
        finally:
            self.peer.give_back(connection)


def now_s() -> float:
    """Read the loop's clock."""
    return asyncio.get_running_loop().time()


@asynccontextmanager
async def serving(*scripts: Sequence[Step], keep_alive_s: float = 4.0) -> AsyncIterator[tuple[Server, Client]]:
    """Put a server and a client together."""
    pool = wire.Pool(keep_alive_s)
    async with Server(*scripts).listening() as server:
        yield server, Client(f"http://127.0.0.1:{server.port}/v1", pool)
        await pool.aclose()
