"""Requests whose head comes again: never another answer, and never another request, than the parser would make."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from trainyard.core.http import heads, leaving
from trainyard.core.http.known_head import KNOWN_HEAD

HEAD = b"POST /a%%20b?c=d HTTP/1.1\r\nHost: x\r\nX-Twice: 1\r\nx-twice: 2\r\nContent-Length: %d\r\nX-Last: y\r\n\r\n"


def post(body: bytes, head: bytes = HEAD) -> bytes:
    return head % len(body) + body


ONE, OTHER = post(b"one"), post(b"another1")  # lengths of one digit
LONGER = post(b"l" * 12)


class Wire(asyncio.Transport):
    """A connection without a socket."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("127.0.0.1", 80), "peername": ("127.0.0.1", 5555)})
        self.written = b""
        self.is_closed = False

    def write(self, data: Any) -> None:
        assert not self.is_closed
        self.written += bytes(data)

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        """Whoever writes here looks at nothing."""

    resume_reading = pause_reading


class Parsed(heads.BoundedHeads):
    """Parses every head."""

    @property
    def _is_at_rest(self) -> bool:
        return False


class AtOnce:
    """An application that wants all requests at once, and then does nothing with them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def at_once(self, scope: Scope, receive: Receive, send: Send) -> bool:
        return True


class Yard:
    """A protocol, its connection, and the requests that it made."""

    def __init__(
        self, protocol: type[heads.BoundedHeads] = heads.BoundedHeads, *, at_once: bool = False, **config: Any
    ) -> None:
        self.seen: list[tuple[dict[str, Any], bytes]] = []
        self.known = 0
        fixed: dict[str, Any] = {"lifespan": "off", "log_config": None, "interface": "asgi3", "proxy_headers": False}
        settings = uvicorn.Config(AtOnce(self.answer) if at_once else self.answer, http=protocol, **fixed, **config)
        settings.load()
        self.wire = Wire()
        self.protocol = protocol(config=settings, server_state=ServerState(), app_state={"a": 1})
        self.protocol.connection_made(self.wire)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.known += scope.pop(KNOWN_HEAD, None) is not None
        scope.pop(leaving.WIRE, None)
        body = await Request(scope, receive).body()
        self.seen.append(({**scope, "headers": [*scope["headers"]]}, body))
        scope["state"]["a"] = 2
        scope["headers"].clear()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})

    async def read(self, *reads: bytes) -> None:
        """Let reads come one by one, with time for the work that they make."""
        for data in reads:
            if not self.wire.is_closed:
                self.protocol.data_received(data)
            for _ in range(8):
                await asyncio.sleep(0)

    def leave(self) -> None:
        self.wire.is_closed = True
        self.protocol.connection_lost(None)

    @property
    def bodies(self) -> list[bytes]:
        return [body for _, body in self.seen]


async def both(reads: Sequence[bytes]) -> Yard:
    """Show that reads come to the same as by the parser alone."""
    yards = Yard(), Yard(Parsed)
    for yard in yards:
        await yard.read(*reads)
        yard.leave()
    ours, parsed = yards
    assert ours.seen == parsed.seen
    assert (ours.wire.written, ours.wire.is_closed) == (parsed.wire.written, parsed.wire.is_closed)
    assert parsed.known == 0
    return ours


async def test_a_head_that_comes_again_is_not_parsed_and_means_the_same() -> None:
    yard = await both([ONE, ONE, OTHER, LONGER, LONGER, ONE])
    assert yard.bodies == [b"one", b"one", b"another1", b"l" * 12, b"l" * 12, b"one"]
    assert yard.known == 5
    assert yard.seen[0] == yard.seen[1]
    assert yard.seen[1][0]["path"] == "/a b"
    assert (b"content-length", b"8") in yard.seen[2][0]["headers"]


@pytest.mark.parametrize("known", [ONE, OTHER])
async def test_a_request_in_two_reads_is_the_parsers(known: bytes) -> None:
    for cut in range(1, len(known)):
        yard = await both([ONE, ONE, known[:cut], known[cut:], ONE])
        assert yard.bodies[-1] == b"one"
        assert len(yard.bodies) == 4


async def test_what_has_begun_is_no_head_that_is_known() -> None:
    """A whole request in the middle of another one is its body or a fault, never a request."""
    for cut in range(1, len(LONGER)):
        await both([ONE, ONE, LONGER[:cut], ONE, ONE])


async def test_a_request_that_comes_in_single_bytes_is_one() -> None:
    yard = await both([ONE, *(ONE[at : at + 1] for at in range(len(ONE))), ONE])
    assert yard.bodies == [b"one"] * 3


@pytest.mark.parametrize(
    "third",
    [
        pytest.param(ONE + ONE, id="two in one read"),
        pytest.param(ONE + b"X", id="a byte too many"),
        pytest.param(ONE + b"\r\n", id="an empty line behind it"),
        pytest.param(b"\r\n" + ONE, id="an empty line before it"),
        pytest.param(b"\r\n", id="an empty line alone"),
        pytest.param(HEAD % 3 + b"on", id="a body that is not whole"),
        pytest.param(HEAD.replace(b"%d", b"%%") % (), id="a length that is none"),
        pytest.param(post(b"one", HEAD.replace(b"%d", b"00%d")), id="a length with zeros"),
        pytest.param(post(b"one", HEAD.replace(b"%d", b"-%d")), id="a length below zero"),
        pytest.param(post(b"one", HEAD.replace(b"%d", b"%d ")), id="a length and a space"),
        pytest.param(post(b"one", HEAD.replace(b"%d", b"1_%d")), id="a length as Python writes it"),
        pytest.param(post(b"one", HEAD.replace(b"%d", b"%d\r\nContent-Length: 30")), id="two lengths"),
        pytest.param(post(b"one", HEAD.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")), id="the last one"),
        pytest.param(post(b"one", HEAD.replace(b"1.1", b"1.0")), id="an old one"),
        pytest.param(post(b"one", HEAD.replace(b"y", b"z")), id="another head"),
        pytest.param(
            HEAD.replace(b"Content-Length: %d", b"Transfer-Encoding: chunked") % () + b"3\r\none\r\n0\r\n\r\n",
            id="in chunks",
        ),
        pytest.param(
            post(b"one", HEAD.replace(b"y\r\n", b"y\r\nTransfer-Encoding: chunked\r\n")), id="in chunks and with length"
        ),
        pytest.param(post(b"one", HEAD.replace(b"y\r\n", b"y\r\nExpect: 100-continue\r\n")), id="asking first"),
        pytest.param(
            post(b"one", HEAD.replace(b"y\r\n", b"y\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n")), id="another protocol"
        ),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", id="no body"),
    ],
)
async def test_whatever_comes_between_is_the_parsers(third: bytes) -> None:
    await both([ONE, ONE, third, ONE, ONE])
    await both([third, third, ONE, ONE])


async def test_a_limit_on_connections_holds_for_heads_that_are_known() -> None:
    yard, other = Yard(limit_concurrency=2), Yard()
    await yard.read(ONE, ONE)
    yard.protocol.connections.add(other.protocol)
    await yard.read(ONE)
    yard.leave()
    assert yard.bodies == [b"one"] * 2
    assert yard.wire.written.count(b"HTTP/1.1 503 ") == 1


async def test_an_application_that_answers_at_once_is_left_out_where_what_runs_is_limited() -> None:
    """It could not tell a request that has to be refused."""
    yard = Yard(limit_concurrency=2, at_once=True)
    await yard.read(ONE)
    yard.leave()
    assert yard.bodies == [b"one"]


class Behind(heads.BoundedHeads):
    outer_scheme = "https"


async def test_a_connection_of_another_process_has_the_scheme_that_clients_use() -> None:
    yard = Yard(Behind)
    await yard.read(ONE, ONE)
    assert [scope["scheme"] for scope, _ in yard.seen] == ["https", "https"]
    assert yard.known == 1
