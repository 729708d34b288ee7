import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
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
async def served(protocol: type[heads.BoundedHeads], app: ASGIApp = echo) -> AsyncIterator[int]:
    config, state = uvicorn.Config(app, http=protocol, lifespan="off", log_config=None), ServerState()
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
    began = time.monotonic()  # the deadline counts from the connection
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
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


@pytest.mark.parametrize("wanted", [b"h2c", b"websocket", b"anything"])
@pytest.mark.parametrize("is_split", [False, True])
async def test_a_wish_for_another_protocol_is_passed_over_and_the_body_stays_one(
    patient_port: int, wanted: bytes, is_split: bool
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", patient_port)
    inner = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    asking = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: " + wanted + b"\r\nHTTP2-Settings: AAMAAABkAAQ\r\n"
    for body in (inner, b"second"):
        head = b"POST / HTTP/1.1\r\nHost: x\r\n" + asking + b"Content-Length: %d\r\n\r\n" % len(body)
        writer.write(head if is_split else head + body)
        await asyncio.sleep(0.05)
        if is_split:
            writer.write(body)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 OK")
        assert b"content-length: %d\r\n" % len(body) in answer
        assert await reader.readexactly(len(body)) == body
    writer.close()
    await writer.wait_closed()


async def test_who_wants_another_protocol_and_the_end_of_the_connection_gets_its_end(patient_port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", patient_port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close, upgrade\r\nUpgrade: h2c\r\n\r\n")
    async with asyncio.timeout(4):
        answer = await reader.read()
    assert answer.count(b"HTTP/1.1 200 OK") == 1
    assert b"connection: close" in answer
    writer.close()
    await writer.wait_closed()


class Quick(heads.BoundedHeads):
    body_look_s = 0.2
    body_bytes_s = 1000


@pytest.mark.parametrize("piece", [b"", b"x"])
async def test_a_body_that_hardly_comes_ends_the_connection(piece: bytes) -> None:
    async with served(Quick) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):  # where a piece comes after the end
            async with asyncio.timeout(4):
                while not reader.at_eof():
                    writer.write(piece)
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(reader.read(1), 0.05)
        writer.close()


async def test_a_body_that_comes_steadily_takes_its_time() -> None:
    async with served(Quick) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000\r\n\r\n")
        for _ in range(10):
            writer.write(b"x" * 400)
            await asyncio.sleep(0.07)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
        writer.close()
        await writer.wait_closed()


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("no", 401)(scope, receive, send)


class Restless(heads.BoundedHeads):
    body_look_s = 0.2

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.timeout_keep_alive = 1


@pytest.mark.parametrize("length", [10, 1_000_000])
async def test_a_connection_whose_body_nobody_wanted_rests_no_longer_than_others(length: int) -> None:
    """The rest of the body comes after the answer, as that of clients that write head and body apart."""
    async with served(Restless, refuse) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length)
        await reader.readuntil(b"\r\n\r\nno")
        writer.write(b"0123456789")
        async with asyncio.timeout(3):
            assert await reader.read() == b""
        writer.close()


class Full(heads.BoundedHeads):
    max_connections = 2


async def test_connections_beyond_the_bound_are_told_to_come_later() -> None:
    async with served(Full) as port:
        kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in kept:
            writer.write(WHOLE + b"body")
            await reader.readuntil(b"body")
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        assert b"retry-after: 1\r\n" in answer
        writer.close()
        kept[0][1].close()
        await kept[0][1].wait_closed()
        await asyncio.sleep(0.05)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(WHOLE + b"body")
        assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200 OK")
        for _, one in (kept[1], (reader, writer)):
            one.close()
            await one.wait_closed()


class Unheard(heads.BoundedHeads):
    write_look_s = 0.2


async def flood(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(1000):
        await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def test_a_client_that_reads_nothing_is_left() -> None:
    ended = asyncio.Event()

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        await flood(scope, receive, send)
        ended.set()

    async with served(Unheard, watched) as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1000)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(4):
            await ended.wait()
        writer.transport.abort()


async def test_a_client_that_reads_slowly_gets_everything() -> None:
    async with served(Unheard, flood) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        seen, end = 0, b""
        async with asyncio.timeout(30):
            while end != b"0\r\n\r\n" and (piece := await reader.read(2_000_000)):
                seen, end = seen + len(piece), (end + piece)[-5:]
                if seen % 7 == 0:
                    await asyncio.sleep(0.05)
        assert seen > 1000 * 65_536
        assert end == b"0\r\n\r\n"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(("asked", "is_cut"), [(heads.MAX_WAITING + 1, False), (heads.MAX_WAITING + 2, True)])
async def test_requests_that_wait_on_one_connection_are_bounded(asked: int, is_cut: bool) -> None:
    begun = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if not begun.is_set():
            begun.set()
            await asyncio.sleep(0.1)
        await PlainTextResponse("yes")(scope, receive, send)

    async with served(heads.BoundedHeads, slow) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * asked)
        if is_cut:
            seen = b""
            with contextlib.suppress(ConnectionResetError):
                seen = await reader.read()
            assert seen == b""
            await asyncio.sleep(0.2)  # the one that ran ends
        else:
            for _ in range(asked):
                await reader.readuntil(b"\r\n\r\nyes")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
