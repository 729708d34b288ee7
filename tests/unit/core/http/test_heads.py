import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from trainyard.core.http import heads

TIMEOUT_S = 0.3
WHOLE = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    await PlainTextResponse(body)(scope, receive, send)


class Impatient(heads.BoundedHeads):
    head_timeout_s = TIMEOUT_S


@contextlib.asynccontextmanager
async def served(protocol: type[heads.BoundedHeads]) -> AsyncIterator[int]:
    config, state = uvicorn.Config(echo, http=protocol, lifespan="off", log_config=None), ServerState()
    config.load()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


@pytest.fixture
async def port() -> AsyncIterator[int]:
    async with served(Impatient) as number:
        yield number


@pytest.fixture
async def patient_port() -> AsyncIterator[int]:
    async with served(heads.BoundedHeads) as number:
        yield number


@pytest.mark.parametrize("first", [b"", b"P", b"GET / HTTP/1.1\r\nHost: x\r\n", WHOLE + b"bodyGET / HTTP/1.1\r\n"])
async def test_a_connection_without_whole_headers_is_closed_at_its_deadline(port: int, first: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = time.monotonic()
    writer.write(first)
    async with asyncio.timeout(4):  # less than the time for which uvicorn keeps an idle connection
        await reader.read()
    assert time.monotonic() - began >= TIMEOUT_S
    writer.close()
    await writer.wait_closed()


async def test_a_slow_body_is_waited_for_and_so_is_the_next_request(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(2):
        writer.write(WHOLE)
        await asyncio.sleep(2 * TIMEOUT_S)
        writer.write(b"body")
        assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 OK")
        await asyncio.sleep(2 * TIMEOUT_S)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("earlier", [b"", WHOLE + b"body"])
async def test_a_head_without_end_is_refused_before_it_fills_the_memory(patient_port: int, earlier: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", patient_port)
    writer.write(earlier + b"GET / HTTP/1.1\r\nX: ")
    sent_bytes = 0
    while not writer.is_closing() and sent_bytes < 100 * 1024 * 1024:
        writer.write(b"a" * 65_536)
        sent_bytes += 65_536
        await asyncio.wait([asyncio.ensure_future(_drained(writer))])
    assert sent_bytes < 8 * 1024 * 1024


async def _drained(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        await writer.drain()


async def test_a_head_of_a_usual_size_and_a_large_body_pass(patient_port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", patient_port)
    body = b"b" * (4 * heads.HEAD_BYTES)
    for _ in range(2):
        cookies = b"Cookie: " + b"c" * (heads.HEAD_BYTES // 2)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\n" + cookies + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
        assert await reader.readexactly(len(body)) == body
    writer.close()
    await writer.wait_closed()
