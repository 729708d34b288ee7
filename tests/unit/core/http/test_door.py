"""The door answers as the stack behind it does, byte for byte."""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message

from tests.unit.core.http.conftest import ERRORS, ChatAnswer, ChatBody
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.http import hot, leaving
from trainyard.core.http.application import Application, HttpParts, build_http
from trainyard.core.keys import APIKeyManager
from trainyard.core.principal import Principal
from trainyard.core.settings import Settings

MAX_BODY_BYTES = 2048
PATH = "/v1/things"
OPENAI = "/v1/chat/completions"
RATE = (b"x-ratelimit-limit-requests", b"5")
_MADE_ID = re.compile(rb"req_[0-9a-f]{24}")

Headers = Sequence[tuple[bytes, bytes]]


async def answer(request: hot.Request, body: ChatBody, who: Principal) -> hot.Answer:
    """Give whatever kind of answer the prompt names."""
    request.note(model="fake", n=body.n)
    await asyncio.sleep(0)
    if body.prompt in ERRORS:
        raise ERRORS[body.prompt]
    kinds: dict[str, hot.Answer] = {
        "plain": PlainTextResponse("plain", headers={"Cache-Control": "max-age=1", "X-Request-ID": "other"}),
        "empty": Response(status_code=204),
        "reply": hot.Reply(ChatAnswer("x"), [RATE]),
        "written": hot.Reply(b'{"output":"y"}', [RATE, (b"cache-control", b"private")], 201),
        "stream": hot.Stream(_events(body.n), [RATE]),
        "breaks": hot.Stream(_breaking(), [RATE]),
        "left": ChatAnswer("nobody reads this"),
    }
    if body.prompt == "left":
        raise ClientDisconnect
    return kinds.get(body.prompt) or ChatAnswer(f"{body.prompt} {request.header(b'x-more')} {request.route} {who.user}")


async def _events(count: int) -> AsyncGenerator[bytes, None]:
    for number in range(count):
        yield b"data: %d\n\n" % number


async def _breaking() -> AsyncGenerator[bytes, None]:
    yield b"data: 0\n\n"
    raise RuntimeError("broken in the middle")


@dataclass
class Exchange:
    """What an application sent."""

    sent: list[Message] = field(default_factory=list)
    error: Exception | None = None

    @property
    def shown(self) -> Any:
        """The answer without the id that the server made."""
        pieces = [
            (
                message["type"],
                message.get("status"),
                [(name, _MADE_ID.sub(b"req_?", value)) for name, value in message.get("headers", ())],
                _MADE_ID.sub(b"req_?", message.get("body", b"")),
            )
            for message in self.sent
        ]
        return pieces, repr(self.error)


async def ask(
    app: ASGIApp,
    headers: Headers,
    body: Iterable[bytes],
    *,
    path: str = PATH,
    method: str = "POST",
    leaves: bool = False,
) -> Exchange:
    """Send one request, its body in pieces, over plain ASGI."""
    exchange, pieces = Exchange(), list(body)

    async def receive() -> Message:
        if pieces:
            return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces) or leaves}
        if leaves:
            return {"type": "http.disconnect"}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        exchange.sent.append(dict(message))

    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"a=1",
        "scheme": "http",
        "server": ("t", 80),
        "client": ("t", 1),
        "headers": list(headers),
        "state": {},
    }
    try:
        async with asyncio.timeout(5):
            await app(scope, receive, send)
    except RuntimeError as error:
        exchange.error = error
    return exchange


@pytest.fixture
def parts(database: Database, clock: FakeClock) -> HttpParts:
    return HttpParts(database, APIKeyManager(database, b"p" * 32, clock), clock=clock)


@pytest.fixture
def app(parts: HttpParts) -> Application:
    routes = [
        hot.hot_route(
            path,
            answer,
            request_type=ChatBody,
            response_type=ChatAnswer,
            scope="generate",
            dialect=dialect,  # type: ignore[arg-type]
            summary="Answer",
        )
        for path, dialect in ((PATH, "native"), (OPENAI, "openai"), ("/things", "signal"))
    ]
    return build_http(Settings(server={"max_body_bytes": MAX_BODY_BYTES}), parts, hot_routes=routes)  # type: ignore[arg-type]


def _asking(prompt: str, n: int = 1) -> list[bytes]:
    return [b'{"prompt": "%b", "n": %d}' % (prompt.encode(), n)]


TABLE: dict[str, tuple[Headers, list[bytes]]] = {
    **{f"fails {kind}": ((), _asking(kind)) for kind in ERRORS},
    **{f"answers {kind}": ((), _asking(kind)) for kind in ("plain", "empty", "reply", "written", "said", "left")},
    "streams": ((), _asking("stream", 3)),
    "stream that breaks": ((), _asking("breaks")),
    "body in pieces": ((), [b'{"prom', b'pt": "a"', b"}"]),
    "empty pieces": ((), [b"", b'{"prompt": "a"}', b""]),
    "own id": ([(b"x-request-id", b"mine.1")], _asking("said")),
    "own id in an error": ([(b"x-request-id", b"mine.1")], _asking("conflict")),
    "unusable id": ([(b"x-request-id", b"a b")], _asking("said")),
    "two ids": ([(b"x-request-id", b"a"), (b"x-request-id", b"b")], _asking("said")),
    "header": ([(b"x-more", b" \xe9 ")], _asking("said")),
    "other type": ([(b"content-type", b"text/plain")], _asking("said")),
    "no json": ((), [b"{"]),
    "empty": ((), [b""]),
    "unknown field": ((), [b'{"promt": "x"}']),
    "out of bounds": ((), [b'{"prompt": "x", "n": 9}']),
    "not utf-8": ((), [b'{"prompt": "\xff"}']),
    "half a pair": ((), [b'{"prompt": "\\ud800"}']),
    "as long as allowed": ((), [b'{"prompt": "%b"}' % (b"x" * (MAX_BODY_BYTES - 14))]),
    "one byte too long": ((), [b'{"prompt": "%b"}' % (b"x" * (MAX_BODY_BYTES - 13))]),
    "too long in pieces": ((), [b"x" * MAX_BODY_BYTES, b"x"]),
    "declared too long": ([(b"content-length", b"2049")], _asking("said")),
    "declared absurdly long": ([(b"content-length", b"9" * 5000)], _asking("said")),
    "declared nonsense": ([(b"content-length", b"\xb2")], _asking("said")),
}


@pytest.mark.parametrize("path", [PATH, OPENAI, "/things"])
@pytest.mark.parametrize("case", TABLE)
async def test_the_door_answers_as_the_stack_behind_it(
    app: Application, parts: HttpParts, case: str, path: str
) -> None:
    headers, body = TABLE[case]
    key = (b"authorization", f"Bearer {parts.keys.generate_key('ada')}".encode())
    through_door = await ask(app, [key, *headers], body, path=path)
    through_stack = await ask(app.behind_door, [key, *headers], body, path=path)
    assert through_door.shown == through_stack.shown
    assert bool(through_door.sent) is (case != "answers left")
    status = through_door.sent[0]["status"] if through_door.sent else 499
    assert _counts(parts)[f'trainyard_http_requests_total{{method="POST",route="{path}",status="{status}"}}'] >= 1.0
    assert sum(_counts(parts).values()) == 4.0  # two requests, each once by its status and once by its time


def _counts(parts: HttpParts) -> dict[str, float]:
    lines = parts.metrics.render()[0].decode().splitlines()
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in lines)
        if name.startswith(("trainyard_http_requests_total", "trainyard_http_request_seconds_count"))
    }


async def _key_headers(parts: HttpParts, kind: str) -> Headers:
    key = parts.keys.generate_key("ada").encode()
    weak = parts.keys.generate_key("bob", scopes="train").encode()
    return {
        "none": [],
        "bearer": [(b"authorization", b"bearer  %b " % key)],
        "apikey": [(b"authorization", b"ApiKey %b" % key)],
        "alone": [(b"x-api-key", key)],
        "alone beside basic": [(b"authorization", b"Basic eDp5"), (b"x-api-key", key)],
        "bearer first": [(b"authorization", b"Bearer nonsense"), (b"x-api-key", key)],
        "first of two": [(b"x-api-key", key), (b"x-api-key", b"nonsense")],
        "unknown": [(b"x-api-key", b"sk-" + b"a" * 43)],
        "no text": [(b"authorization", b"Bearer \xff\xfe")],
        "tinker": [(b"x-api-key", b"tml-" + key[3:])],
        "empty": [(b"authorization", b"Bearer "), (b"x-api-key", b"")],
        "weak": [(b"x-api-key", weak)],
        "weak and too long": [(b"x-api-key", weak), (b"content-length", b"9999")],
        "unknown and too long": [(b"x-api-key", b"sk-x"), (b"content-length", b"9999")],
    }[kind]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        *(("none", 401), ("bearer", 200), ("apikey", 200), ("alone", 200), ("alone beside basic", 200)),
        *(("bearer first", 401), ("first of two", 200), ("unknown", 401), ("no text", 401), ("tinker", 200)),
        *(("empty", 401), ("weak", 403), ("weak and too long", 413), ("unknown and too long", 401)),
    ],
)
async def test_the_door_reads_keys_as_the_stack_behind_it(
    app: Application, parts: HttpParts, clock: FakeClock, kind: str, status: int
) -> None:
    headers = await _key_headers(parts, kind)
    for _ in range(2):  # with a snapshot that is fresh, and with one that has to be renewed
        answers = [await ask(target, headers, _asking("said")) for target in (app, app.behind_door)]
        assert answers[0].shown == answers[1].shown
        assert answers[0].sent[0]["status"] == status
        clock.advance(10)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "BREW"])
async def test_other_methods_are_refused_as_everywhere(app: Application, parts: HttpParts, method: str) -> None:
    key = (b"x-api-key", parts.keys.generate_key("ada").encode())
    answered = await ask(app, [key], [b""], method=method)
    assert answered.sent[0]["status"] == 405
    assert (b"allow", b"POST") in answered.sent[0]["headers"]


async def test_a_draining_server_lets_nothing_in(app: Application, parts: HttpParts) -> None:
    key = (b"x-api-key", parts.keys.generate_key("ada").encode())
    parts.drain.begin()
    answers = [await ask(target, [key], _asking("said")) for target in (app, app.behind_door)]
    assert answers[0].shown == answers[1].shown
    assert (answers[0].sent[0]["status"], parts.drain.in_flight) == (503, 0)
    assert (b"connection", b"close") in answers[0].sent[0]["headers"]


async def test_a_client_that_leaves_while_it_sends_is_not_answered(app: Application, parts: HttpParts) -> None:
    key = (b"x-api-key", parts.keys.generate_key("ada").encode())
    left = await ask(app, [key], [b'{"prompt"'], leaves=True)
    assert left.sent == []
    assert _counts(parts)['trainyard_http_requests_total{method="POST",route="/v1/things",status="499"}'] == 1.0
    assert b"trainyard_http_requests_in_flight 0.0" in parts.metrics.render()[0]


async def test_a_server_that_tells_of_leaving_by_an_exception_is_understood(app: Application, parts: HttpParts) -> None:
    key = parts.keys.generate_key("ada").encode()
    body = _asking("stream", 3)

    async def receive() -> Message:
        if body:
            return {"type": "http.request", "body": body.pop(), "more_body": False}
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise BrokenPipeError

    scope = {"type": "http", "method": "POST", "path": PATH, "headers": [(b"x-api-key", key)]}
    await app(scope, receive, send)
    assert _counts(parts)['trainyard_http_requests_total{method="POST",route="/v1/things",status="499"}'] == 1.0


@dataclass
class FakeWire:
    """Implements `leaving.Wire` over lists."""

    takes: bool = True
    has_left: bool = False
    body: bytes | None = None
    whole: list[tuple[int, bytes, bytes]] = field(default_factory=list)
    leavers: list[Any] = field(default_factory=list)

    def call_when_gone(self, leave: Any) -> None:
        self.leavers.append(leave)

    def forget(self, leave: Any) -> None:
        self.leavers.remove(leave)

    def peek_body(self) -> bytes | None:
        return self.body

    def take_body(self) -> bytes | None:
        return self.body

    def write_whole(self, status: int, head: bytes, content: bytes) -> bool:
        if self.takes:
            self.whole.append((status, head, content))
        return self.takes


@pytest.mark.parametrize("prompt", ["said", "reply"])
async def test_an_answer_in_one_piece_is_the_same_answer(app: Application, parts: HttpParts, prompt: str) -> None:
    headers = [(b"x-api-key", parts.keys.generate_key("ada").encode()), (b"x-request-id", b"mine")]
    plain = await ask(app, headers, _asking(prompt))
    wire = FakeWire()
    exchange = await ask(_wired(app, wire), headers, _asking(prompt))
    assert exchange.sent == []
    [(status, head, content)] = wire.whole
    assert status == plain.sent[0]["status"]
    assert head == b"".join(b"%b: %b\r\n" % pair for pair in plain.sent[0]["headers"])
    assert content == plain.sent[1]["body"]


@pytest.mark.parametrize(("size", "status"), [(MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413)])
async def test_a_body_that_is_there_is_bounded_too(app: Application, parts: HttpParts, size: int, status: int) -> None:
    body = b'{"prompt": "%b"}' % (b"x" * (size - 14))
    wire = FakeWire(takes=False, body=body)
    exchange = await ask(_wired(app, wire), [(b"x-api-key", parts.keys.generate_key("ada").encode())], [b"unread"])
    assert (len(body), exchange.sent[0]["status"]) == (size, status)


@pytest.mark.parametrize(("prompt", "takes"), [("said", False), ("written", True), ("plain", True), ("stream", True)])
async def test_an_answer_that_is_no_one_piece_goes_the_usual_way(
    app: Application, parts: HttpParts, prompt: str, takes: bool
) -> None:
    headers = [(b"x-api-key", parts.keys.generate_key("ada").encode()), (b"x-request-id", b"mine")]
    wire = FakeWire(takes)
    exchange = await ask(_wired(app, wire), headers, _asking(prompt))
    assert wire.whole == []
    assert exchange.shown == (await ask(app, headers, _asking(prompt))).shown
    assert wire.leavers == []


def _wired(app: ASGIApp, wire: FakeWire) -> ASGIApp:
    async def wired(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, leaving.WIRE: wire}, receive, send)

    return wired
