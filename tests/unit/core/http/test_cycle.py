"""Hot requests over real sockets, with and without TLS."""

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field

import pytest
import uvicorn
from starlette.requests import ClientDisconnect
from uvicorn.server import ServerState

from tests.unit.core.http.conftest import ChatAnswer, ChatBody, Tls
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.http import heads, hot, leaving
from trainyard.core.http.application import Application, HttpParts, build_http
from trainyard.core.keys import APIKeyManager
from trainyard.core.principal import Principal
from trainyard.core.settings import Settings

PATH = "/v1/things"
KEEP_ALIVE_S = 0.3


@dataclass
class Handler:
    """Answers, waits or streams, and notes what became of it."""

    seen: list[str] = field(default_factory=list)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, request: hot.Request, body: ChatBody, who: Principal) -> hot.Answer:
        self.started.set()
        if body.prompt == "late":
            await self._until_left(request)
        if body.prompt == "wait":
            await leaving.while_connected(request, self._wait(request))
        if body.prompt == "stream":
            return hot.Stream(self._events(body.n))
        if body.prompt == "endless":
            return hot.Stream(self._events(1 << 30))
        return ChatAnswer(body.prompt)

    async def _until_left(self, request: hot.Request) -> None:
        """Work that does not look whether anybody is there, and then does."""
        while not request.has_left:  # noqa: ASYNC110 - a property, as work looks at it between two steps
            await asyncio.sleep(0.01)
        try:
            await leaving.while_connected(request, asyncio.sleep(20))
        except ClientDisconnect:
            self.seen.append("left before")
        self.ended.set()

    async def _wait(self, request: hot.Request) -> None:
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            self.seen.append(f"cancelled {request.has_left}")
            raise
        finally:
            self.ended.set()

    async def _events(self, count: int) -> AsyncGenerator[bytes, None]:
        try:
            for number in range(count):
                await asyncio.sleep(0)
                yield b"data: %d\n\n" % number + b" " * (1000 if count > 4 else 0)
        finally:
            await asyncio.sleep(0)
            self.seen.append("closed")
            self.ended.set()


class Hasty(heads.BoundedHeads):
    head_timeout_s = 5


@dataclass
class Served:
    """A listening server and a key for it."""

    port: int
    key: str
    handler: Handler
    parts: HttpParts
    state: ServerState
    tls: Tls | None

    def request(self, prompt: str, *headers: str, n: int = 1, path: str = PATH) -> bytes:
        body = f'{{"prompt": "{prompt}", "n": {n}}}'
        head = [f"POST {path} HTTP/1.1", "Host: x", f"X-API-Key: {self.key}", f"Content-Length: {len(body)}", *headers]
        return "\r\n".join([*head, "", body]).encode()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls.client if self.tls else None)

    def count(self, status: int) -> bool:
        line = f'trainyard_http_requests_total{{method="POST",route="{PATH}",status="{status}"}} 1.0'
        return line in self.parts.metrics.render()[0].decode()


@pytest.fixture
async def served(database: Database, clock: FakeClock, tls: Tls | None) -> AsyncIterator[Served]:
    handler = Handler()
    parts = HttpParts(database, APIKeyManager(database, b"p" * 32, clock), clock=clock)
    app = _application(handler, parts)
    config = uvicorn.Config(app, http=Hasty, lifespan="off", log_config=None, access_log=False)
    config.timeout_keep_alive = KEEP_ALIVE_S  # type: ignore[assignment]  # a test does not wait for whole seconds
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()
    state.default_headers = [(b"date", b"today")]
    server = await loop.create_server(
        lambda: Hasty(config=config, server_state=state, app_state={}), "127.0.0.1", 0, ssl=tls.server if tls else None
    )
    yield Served(server.sockets[0].getsockname()[1], parts.keys.generate_key("ada"), handler, parts, state, tls)
    server.close()
    await server.wait_closed()


def _application(handler: Handler, parts: HttpParts) -> Application:
    async def answer(request: hot.Request, body: ChatBody, who: Principal) -> hot.Answer:
        return await handler(request, body, who)

    route = hot.hot_route(
        PATH,
        answer,
        request_type=ChatBody,
        response_type=ChatAnswer,
        scope="generate",
        dialect="native",
        summary="Answer",
    )
    return build_http(Settings(), parts, hot_routes=[route])


async def _answers(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return head, await reader.readexactly(int(length[1])) if length else b""


async def test_an_answer_has_all_that_an_answer_has(served: Served) -> None:
    reader, writer = await served.connect()
    for _ in range(2):
        writer.write(served.request("hello", "X-Request-ID: mine"))
        head, body = await _answers(reader)
        assert body == b'{"output":"hello"}'
        assert head.split(b"\r\n") == [
            b"HTTP/1.1 200 OK",
            b"date: today",
            b"content-length: 18",
            b"content-type: application/json",
            b"x-content-type-options: nosniff",
            b"x-frame-options: DENY",
            b"referrer-policy: no-referrer",
            b"cache-control: no-store",
            b"content-security-policy: default-src 'none'; frame-ancestors 'none'",
            b"x-request-id: mine",
            b"",
            b"",
        ]
    await _close(writer)


async def test_pipelined_requests_are_answered_in_their_order(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(b"".join(served.request(str(number)) for number in range(20)))
    for number in range(20):
        assert (await _answers(reader))[1] == b'{"output":"%d"}' % number
    await _close(writer)


async def test_the_last_answer_of_a_connection_says_so_and_ends_it(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(served.request("a") + served.request("b", "Connection: close"))
    assert b"connection: close" not in (await _answers(reader))[0]
    assert b"\r\nconnection: close\r\n" in (await _answers(reader))[0]
    assert await reader.read() == b""
    await _close(writer)


async def test_answers_come_before_the_refusal_of_what_is_no_request(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(served.request("a"))
    await served.handler.started.wait()
    writer.write(b"nonsense\r\n\r\n")
    assert (await _answers(reader))[1] == b'{"output":"a"}'
    assert (await reader.read()).startswith(b"HTTP/1.1 400")
    await _close(writer)


async def test_a_kept_connection_is_closed_when_it_has_rested(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(served.request("a"))
    await _answers(reader)
    await asyncio.sleep(KEEP_ALIVE_S * 0.7)
    writer.write(served.request("b"))
    await _answers(reader)
    await asyncio.sleep(KEEP_ALIVE_S * 0.7)  # the timer of the first rest has ended by now
    writer.write(served.request("c"))
    assert (await _answers(reader))[1] == b'{"output":"c"}'
    async with asyncio.timeout(5):
        assert await reader.read() == b""
    await _close(writer)


async def test_a_connection_that_works_is_not_at_rest(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(served.request("a"))
    await _answers(reader)
    writer.write(served.request("wait"))
    await served.handler.started.wait()
    await asyncio.sleep(KEEP_ALIVE_S * 1.5)
    assert not served.handler.ended.is_set()
    await _close(writer)


@pytest.mark.parametrize("how", ["closes", "resets"])
async def test_a_client_that_leaves_ends_the_work(served: Served, how: str) -> None:
    _, writer = await served.connect()
    writer.write(served.request("wait"))
    await asyncio.sleep(0.05)
    if how == "resets":
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await _close(writer)
    async with asyncio.timeout(5):
        await served.handler.ended.wait()
    await asyncio.sleep(0.01)
    assert served.handler.seen == ["cancelled True"]
    assert served.count(499)


async def test_a_client_that_leaves_behind_a_pipelined_request_ends_the_work(served: Served) -> None:
    _, writer = await served.connect()
    writer.write(served.request("wait") + served.request("b"))
    await asyncio.sleep(0.05)
    await _close(writer)
    async with asyncio.timeout(5):
        await served.handler.ended.wait()
    assert served.handler.seen == ["cancelled True"]


async def test_a_stream_comes_in_chunks_and_is_counted_at_its_end(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(served.request("stream", n=2))
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"content-type: text/event-stream; charset=utf-8\r\n" in head
    assert b"transfer-encoding: chunked\r\n" in head
    body = await reader.readuntil(b"0\r\n\r\n")
    assert body == b"9\r\ndata: 0\n\n\r\n9\r\ndata: 1\n\n\r\n0\r\n\r\n"
    await served.handler.ended.wait()
    assert served.count(200)
    await _close(writer)


async def test_a_client_that_leaves_a_stream_closes_it(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(served.request("endless"))
    await reader.readuntil(b"data: 3")
    await _close(writer)
    async with asyncio.timeout(5):
        await served.handler.ended.wait()
    await asyncio.sleep(0.01)
    assert served.handler.seen == ["closed"]
    assert served.count(499)


async def test_a_client_that_stops_reading_a_stream_and_leaves_closes_it(served: Served) -> None:
    reader, writer = await served.connect()
    reader._transport.pause_reading()  # type: ignore[attr-defined]  # what no client library says
    writer.write(served.request("endless"))
    await asyncio.sleep(0.3)
    assert not served.handler.ended.is_set()
    await _close(writer)
    async with asyncio.timeout(5):
        await served.handler.ended.wait()
    assert served.handler.seen == ["closed"]


async def test_answers_wait_for_a_client_that_reads_slowly(served: Served) -> None:
    reader, writer = await served.connect()
    reader._transport.pause_reading()  # type: ignore[attr-defined]  # what no client library says
    long = "x" * 60_000
    writer.write(b"".join(served.request(f"{number}{long}") for number in range(90)))
    await asyncio.sleep(0.5)
    reader._transport.resume_reading()  # type: ignore[attr-defined]
    for number in range(90):
        assert (await _answers(reader))[1] == b'{"output":"%d%b"}' % (number, long.encode())
    await _close(writer)


async def test_an_answer_for_a_client_who_has_left_goes_nowhere(served: Served) -> None:
    _, writer = await served.connect()
    writer.write(served.request("late"))
    await served.handler.started.wait()
    await _close(writer)
    async with asyncio.timeout(5):
        await served.handler.ended.wait()
    await asyncio.sleep(0.01)
    assert served.handler.seen == ["left before"]
    assert served.count(200)


async def test_a_path_is_read_as_it_is_meant(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(served.request("a", path="/v1/thin%67s?x=1"))
    assert (await _answers(reader))[1] == b'{"output":"a"}'
    await _close(writer)


async def test_an_old_client_gets_its_answer_and_the_end(served: Served) -> None:
    reader, writer = await served.connect()
    writer.write(served.request("a").replace(b"HTTP/1.1", b"HTTP/1.0", 1))
    head, body = await _answers(reader)
    assert body == b'{"output":"a"}'
    assert b"connection: close" in head
    assert await reader.read() == b""
    await _close(writer)


async def test_no_path_is_upgraded(served: Served) -> None:
    reader, writer = await served.connect()
    upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: eA==\r\n"
    writer.write(b"GET /v1/things HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
    assert re.match(rb"HTTP/1.1 4\d\d ", await reader.read())
    await _close(writer)


async def test_connections_at_rest_are_closed_at_the_end_and_others_after_their_answer(served: Served) -> None:
    resting, writer = await served.connect()
    writer.write(served.request("a"))
    await _answers(resting)
    working, second = await served.connect()
    second.write(served.request("stream", n=4))
    await working.readuntil(b"\r\n\r\n")
    for connection in list(served.state.connections):
        connection.shutdown()
    assert await resting.read() == b""
    assert (await working.read()).endswith(b"0\r\n\r\n")
    for each in (writer, second):
        await _close(each)


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):  # of what was still on its way
        await writer.wait_closed()
