"""Requests that are answered as equal ones were: without a task, over real sockets, with and without TLS."""

import asyncio
import contextlib
import gc
import json
import re
import weakref
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from tests.unit.core.http.conftest import ChatAnswer, ChatBody, Tls
from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.http import heads, hot, leaving
from trainyard.core.http.application import HttpParts, build_http
from trainyard.core.keys import APIKeyManager
from trainyard.core.principal import Principal
from trainyard.core.settings import Settings

PATH = "/v1/things"
LONG = 4 << 20


@dataclass
class Echo:
    """Has an answer at once for everything, unless it is told otherwise.

    Attributes:
        waiting: Who is answered when the test says so.
        is_held: Whether they wait.
        worked: Prompts that took the long way.
        wires: The connections of those that were asked for at once.
        fault: Raised in place of an answer.
        knows: Whether there is an answer.
    """

    waiting: list[Callable[[], None]] = field(default_factory=list)
    is_held: bool = False
    worked: list[str] = field(default_factory=list)
    wires: list["weakref.ref[Any]"] = field(default_factory=list)
    fault: Exception | None = None
    knows: bool = True

    async def work(self, request: hot.Request, body: ChatBody, who: Principal) -> hot.Answer:
        self.worked.append(body.prompt)
        return ChatAnswer(body.prompt)

    def again(self, request: hot.Request, who: Principal, finish: hot.Finish) -> bool:
        if self.fault is not None:
            raise self.fault
        self.wires.append(weakref.ref(request.scope[leaving.WIRE]))
        if not self.knows:
            return False
        prompt = json.loads(request.raw)["prompt"]
        made: hot.Reply | Exception = hot.Reply(ChatAnswer("x" * LONG if prompt == "long" else prompt))
        if prompt == "away":
            made = errors.Unavailable("Away", code="ledger_unavailable", retry_after_s=1)
        if self.is_held:
            self.waiting.append(lambda: finish(made))
        else:
            asyncio.get_running_loop().call_soon(finish, made)
        return True


@dataclass
class Yard:
    """A listening server."""

    port: int
    parts: HttpParts
    echo: Echo
    key: str
    protocols: list["weakref.ref[heads.BoundedHeads]"]
    state: ServerState
    tls: Tls | None

    def request(self, prompt: str, key: str = "", *headers: str) -> bytes:
        body = json.dumps({"prompt": prompt})
        head = [f"POST {PATH} HTTP/1.1", "Host: x", f"X-API-Key: {key or self.key}", f"Content-Length: {len(body)}"]
        return "\r\n".join([*head, *headers, "", body]).encode()

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator["Client"]:
        client = Client(
            *(await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls.client if self.tls else None))
        )
        yield client
        client.writer.close()
        with contextlib.suppress(ConnectionError):
            await client.writer.wait_closed()

    def metric(self, name: str, **labels: str) -> float:
        return self.parts.metrics.registry.get_sample_value(name, labels) or 0.0

    def answered(self, status: int) -> float:
        return self.metric("trainyard_http_requests_total", method="POST", route=PATH, status=str(status))

    @property
    def running(self) -> tuple[int, float]:
        return self.parts.drain.in_flight, self.metric("trainyard_http_requests_in_flight")


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def ask(self, request: bytes) -> tuple[int, bytes, Any]:
        self.writer.write(request)
        return await self.answer()

    async def answer(self) -> tuple[int, bytes, Any]:
        """Read the status, the head and the body of an answer."""
        async with asyncio.timeout(10):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            assert length is not None
            return int(head[9:12]), head, json.loads(await self.reader.readexactly(int(length[1])))


@pytest.fixture
async def yard(database: Database, clock: FakeClock, tls: Tls | None) -> AsyncIterator[Yard]:
    echo, parts = Echo(), HttpParts(database, APIKeyManager(database, b"p" * 32, clock), clock=clock)
    route = hot.hot_route(
        PATH,
        echo.work,
        request_type=ChatBody,
        response_type=ChatAnswer,
        scope="generate",
        dialect="native",
        summary="Answer",
        again=echo.again,
    )
    app = build_http(Settings(), parts, hot_routes=[route])
    config = uvicorn.Config(
        app, http=heads.BoundedHeads, lifespan="off", log_config=None, access_log=False, proxy_headers=False
    )
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()
    made: list[weakref.ref[heads.BoundedHeads]] = []

    def protocol() -> heads.BoundedHeads:
        new = heads.BoundedHeads(config=config, server_state=state, app_state={})
        made.append(weakref.ref(new))
        return new

    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls.server if tls else None)
    key = parts.keys.generate_key("ada")
    await database.call(parts.keys.refresh)
    yield Yard(server.sockets[0].getsockname()[1], parts, echo, key, made, state, tls)
    server.close()
    await server.wait_closed()


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not is_so():  # noqa: ASYNC110 - of the other side of a socket
            await asyncio.sleep(0.005)


async def test_all_ways_give_the_same_answer(yard: Yard) -> None:
    yard.echo.knows = False
    async with yard.client() as client:
        long_way = await client.ask(yard.request("a", "", "X-Request-ID: mine"))
        yard.echo.knows = True
        answers = [await client.ask(yard.request("a", "", "X-Request-ID: mine")) for _ in range(3)]
    assert answers == [long_way] * 3
    assert yard.echo.worked == ["a"]
    assert (yard.answered(200), yard.running) == (4, (0, 0))


async def test_each_answer_has_an_id_of_its_own(yard: Yard) -> None:
    async with yard.client() as client:
        made = [(await client.ask(yard.request("a")))[1] for _ in range(4)]
    assert len({re.findall(rb"x-request-id: (req_\w+)", head)[0] for head in made}) == 4


async def test_pipelined_requests_are_answered_in_their_order(yard: Yard) -> None:
    yard.echo.is_held = True
    async with yard.client() as client:
        for text in "abc":
            client.writer.write(yard.request(text))
        for text in "abc":
            await until(lambda: len(yard.echo.waiting) == 1)
            yard.echo.waiting.pop()()
            assert (await client.answer())[2] == {"output": text}


async def test_an_answer_that_cannot_be_paid_for_is_an_error_and_the_connection_goes_on(yard: Yard) -> None:
    async with yard.client() as client:
        for _ in range(2):
            status, head, body = await client.ask(yard.request("away"))
            assert (status, body["code"]) == (503, "ledger_unavailable")
            assert re.search(rb"x-request-id: (req_\w+)", head)
            assert (await client.ask(yard.request("a")))[0] == 200
    assert (yard.answered(503), yard.answered(200), yard.running) == (2, 2, (0, 0))


@pytest.mark.parametrize("earlier", [0, 1])  # the first request of a connection has a task, since its head is parsed
@pytest.mark.parametrize("prompt", ["a", "away"])
async def test_a_client_that_leaves_before_it_is_answered_is_noted(yard: Yard, earlier: int, prompt: str) -> None:
    async with yard.client() as client:
        for _ in range(earlier):
            await client.ask(yard.request("a"))
        yard.echo.is_held = True
        client.writer.write(yard.request(prompt))
        await until(lambda: len(yard.echo.waiting) == 1)
        assert yard.running == (1, 1)
    await until(lambda: not yard.state.connections)
    yard.echo.waiting.pop()()
    await until(lambda: yard.running == (0, 0))
    assert (yard.answered(499), yard.answered(200), yard.answered(503)) == (1, earlier, 0)


async def test_a_client_that_reads_slowly_gets_everything(yard: Yard) -> None:
    async with yard.client() as client:
        assert (await client.ask(yard.request("a")))[0] == 200
        client.reader._transport.pause_reading()  # type: ignore[attr-defined]  # what no client library says
        for prompt in ("long", "long", "long", "a"):
            client.writer.write(yard.request(prompt))
        await asyncio.sleep(0.2)
        client.reader._transport.resume_reading()  # type: ignore[attr-defined]
        answers = [await client.answer() for _ in range(4)]
    assert [len(body["output"]) for _, _, body in answers] == [LONG, LONG, LONG, 1]
    assert (yard.answered(200), yard.running) == (5, (0, 0))


@pytest.mark.parametrize("fault", [errors.Unauthenticated("revoked since"), errors.UnknownModel("gone since")])
async def test_what_cannot_be_told_at_once_is_told_by_the_long_way(yard: Yard, fault: Exception) -> None:
    async with yard.client() as client:
        await client.ask(yard.request("a"))
        yard.echo.fault = fault
        assert (await client.ask(yard.request("a")))[2] == {"output": "a"}
    assert (yard.echo.worked, yard.running) == (["a"], (0, 0))


async def test_an_answer_for_a_request_that_the_server_has_cancelled_is_passed_over(yard: Yard) -> None:
    yard.echo.is_held = True
    async with yard.client() as client:
        client.writer.write(yard.request("a"))
        await until(lambda: len(yard.echo.waiting) == 1)
        (task,) = yard.state.tasks
        task.cancel()
        await asyncio.wait([task])
        yard.echo.waiting.pop()()
    assert yard.running == (0, 0)


async def test_a_revoked_key_is_refused_though_its_head_is_known(yard: Yard) -> None:
    async with yard.client() as client:
        for _ in range(3):
            assert (await client.ask(yard.request("a")))[0] == 200
        yard.parts.keys.revoke_key(yard.key)
        assert (await client.ask(yard.request("a")))[0] == 401


@pytest.mark.parametrize(("scopes", "status"), [("train", 403), ("generate", 200)])
async def test_scopes_are_asked_for(yard: Yard, scopes: str, status: int) -> None:
    key = yard.parts.keys.generate_key("bob", scopes=scopes)
    async with yard.client() as client:
        assert [(await client.ask(yard.request("a", key)))[0] for _ in range(3)] == [status] * 3


async def test_a_draining_server_waits_for_what_it_has_begun_and_begins_nothing(yard: Yard) -> None:
    yard.echo.is_held = True
    async with yard.client() as client, yard.client() as later:
        await until(lambda: len(yard.protocols) == 2)
        client.writer.write(yard.request("a"))
        await until(lambda: len(yard.echo.waiting) == 1)
        yard.parts.drain.begin()
        ending = asyncio.create_task(yard.parts.drain.wait(10))
        status, _, body = await later.ask(yard.request("a"))
        assert (status, body["code"]) == (503, "draining")
        assert not ending.done()
        yard.echo.waiting.pop()()
        assert (await client.answer())[0] == 200
        assert await ending == 0


async def test_nothing_is_left_for_the_collector_of_garbage(yard: Yard) -> None:
    gc.collect()
    gc.disable()
    try:
        async with yard.client() as client:
            for _ in range(4):
                await client.ask(yard.request("a"))
            assert [wire() is None for wire in yard.echo.wires] == [True] * 3 + [False]
        await until(lambda: yard.protocols[-1]() is None)
        assert yard.echo.wires[-1]() is None
    finally:
        gc.enable()
