"""One client's connection to the mock: reads requests, writes answers, and gets wrong what it is told to."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

import httptools
import msgspec

from trainyard.loadtest.mock.answers import Answer, Streamed, Whole
from trainyard.loadtest.mock.faults import Fault
from trainyard.loadtest.mock.seen import Seen

_REASONS: Final = {200: "OK", 302: "Found", 429: "Too Many Requests"}
_EVENTS_BEFORE_A_FAULT: Final = 2
_SLOW_PAUSE_S: Final = 0.001
"""Between two bytes of `slow-bytes`: seconds."""

_OF_THE_WIRE: Final = frozenset(
    {Fault.STALL_HEAD, Fault.STALL_BODY, Fault.DROP_HEAD, Fault.DROP_BODY, Fault.CUT_EVENT, Fault.SLOW_BYTES}
)
_OF_EVENTS: Final = frozenset({Fault.ERROR_EVENT, Fault.GARBAGE, Fault.EMPTY})


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names in lower case."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]
    body: bytes


class Latency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How fast the mock answers.

    Attributes:
        first_token_s: Seconds until the first token, or until a whole answer has begun to be written.
        token_s: Seconds per further token.
        answer_tokens: Length of an answer that nothing else limits.
    """

    first_token_s: float = 0.0
    token_s: float = 0.0
    answer_tokens: int = 16


class Mind(Protocol):
    """What decides about answers."""

    latency: Latency
    seen: Seen

    def answer(self, request: Request) -> tuple[Answer, Fault | None]:
        """Decide what a request gets; a fault that is more than another answer is left to the connection."""
        ...


class Connection(asyncio.Protocol):
    """Answers the requests of one connection one after the other."""

    def __init__(self, mock: Mind, everybody: set["Connection"]) -> None:
        self._mock = mock
        self._everybody = everybody
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._body = b""

    # ------------------------------------------------------------ from the event loop
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._everybody.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        """Stop answering somebody who is gone."""
        self._everybody.discard(self)
        if self._task is not None and not self._task.done():
            self._mock.seen.aborted += 1
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what is no HTTP closes the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def close(self) -> None:
        """Close from our side."""
        self._transport.abort()

    # ------------------------------------------------------------ from the parser
    def on_url(self, url: bytes) -> None:
        """Take the target of the request."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Answer, or wait until the one before is answered."""
        method = self._parser.get_method().decode()
        path = self._url.split(b"?", 1)[0].decode("latin-1")
        request = Request(method, path, self._headers, self._body)
        self._url, self._headers, self._body = b"", {}, b""
        self._waiting.append(request)
        if self._task is None:
            self._next()

    # ------------------------------------------------------------ answers
    def _next(self) -> None:
        while self._waiting and self._task is None and not self._transport.is_closing():
            answer, fault = self._mock.answer(self._waiting.popleft())
            latency = self._mock.latency
            is_slow = latency.first_token_s > 0 or latency.token_s > 0
            if fault in _OF_THE_WIRE or (is_slow and (isinstance(answer, Streamed) or answer.tokens)):
                self._task = asyncio.get_running_loop().create_task(self._answer_slowly(answer, fault))
            else:
                self._transport.write(_head(answer) + _body(answer, fault))

    async def _answer_slowly(self, answer: Answer, fault: Fault | None) -> None:
        self._mock.seen.begin()
        try:
            if fault in _OF_THE_WIRE:
                await self._get_wrong(answer, fault)
            else:
                await self._pace(answer, fault)
        finally:
            self._mock.seen.in_flight -= 1
            self._task = None
        self._next()

    async def _pace(self, answer: Answer, fault: Fault | None) -> None:
        latency, now = self._mock.latency, asyncio.get_running_loop().time
        due_s = now() + latency.first_token_s
        if isinstance(answer, Whole):
            await asyncio.sleep(latency.first_token_s + latency.token_s * max(0, answer.tokens - 1))
            self._transport.write(_head(answer) + answer.body)
            return
        self._transport.write(_head(answer))
        for event in _events(answer, fault):
            await asyncio.sleep(max(0.0, due_s - now()))
            self._transport.write(_chunk(event))
            due_s += latency.token_s
        self._transport.write(b"0\r\n\r\n")

    async def _get_wrong(self, answer: Answer, fault: Fault | None) -> None:
        if fault is Fault.STALL_HEAD:
            await asyncio.Event().wait()
        if fault is Fault.SLOW_BYTES:
            return await self._drip(_head(answer) + _body(answer, None))
        if fault is not Fault.DROP_HEAD:
            self._transport.write(_head(answer) + _beginning(answer, fault))
        if fault is Fault.STALL_BODY:
            await asyncio.Event().wait()
        self._transport.close()
        return None

    async def _drip(self, raw: bytes) -> None:
        for at in range(len(raw)):
            self._transport.write(raw[at : at + 1])
            await asyncio.sleep(_SLOW_PAUSE_S if at % 16 == 0 else 0)


def _head(answer: Answer) -> bytes:
    if isinstance(answer, Streamed):
        return f"HTTP/1.1 200 OK\r\ncontent-type: {answer.content_type}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    extra = "".join(f"{name}: {value}\r\n" for name, value in (answer.headers or {}).items())
    return (
        f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Mock')}\r\ncontent-type: {answer.content_type}\r\n"
        f"content-length: {len(answer.body)}\r\n{extra}\r\n"
    ).encode()


def _body(answer: Answer, fault: Fault | None) -> bytes:
    if isinstance(answer, Whole):
        return answer.body
    return b"".join([*map(_chunk, _events(answer, fault)), b"0\r\n\r\n"])


def _events(answer: Streamed, fault: Fault | None) -> Sequence[bytes]:
    if fault not in _OF_EVENTS:
        return answer.events
    wrong = {Fault.ERROR_EVENT: answer.error_event, Fault.GARBAGE: answer.garbage_event}.get(fault)
    return [] if wrong is None else [*answer.events[:_EVENTS_BEFORE_A_FAULT], wrong]


def _beginning(answer: Answer, fault: Fault | None) -> bytes:
    if isinstance(answer, Whole):
        return answer.body[: len(answer.body) // 2]
    sent = list(answer.events[:_EVENTS_BEFORE_A_FAULT])
    if fault is Fault.CUT_EVENT:
        cut = answer.events[_EVENTS_BEFORE_A_FAULT]
        sent.append(cut[: len(cut) // 2])
    return b"".join(map(_chunk, sent))


def _chunk(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)
