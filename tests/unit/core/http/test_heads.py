import asyncio
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


@pytest.fixture
async def port() -> AsyncIterator[int]:
    config = uvicorn.Config(echo, http=heads.bounded(TIMEOUT_S), lifespan="off", log_config=None)
    config.load()
    protocol, state = config.http_protocol_class, ServerState()
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config=config, server_state=state, app_state={}),  # type: ignore[call-arg]
        "127.0.0.1",
        0,
    )
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


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
