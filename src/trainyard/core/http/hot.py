"""Hot routes: plain ASGI and msgspec, yet with the same errors and in the same OpenAPI document.

`door.HotDoor` serves them in one pass. Their Starlette side answers other methods, and POST where no door is.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from starlette.requests import Request as StarletteRequest
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope

from trainyard.core import errors, head_lines
from trainyard.core.http import auth, leaving
from trainyard.core.http.bodies import Body, decode
from trainyard.core.http.dialects import Dialect
from trainyard.core.http.routing import NamedRoute
from trainyard.core.principal import Principal

RawHeaders = Sequence[tuple[bytes, bytes]]

STREAM_HEADERS: Final[RawHeaders] = (
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
    (b"content-type", b"text/event-stream; charset=utf-8"),
)

KEPT_BODY_BYTES: Final = 64 * 1024
"""What handlers see of a body as it came."""


class Request:
    """What a handler sees of the request beside its body.

    Attributes:
        scope: Of ASGI.
        receive: Of ASGI; the body has been read.
        headers: Names in lower case; of those that came twice the first.
        request_id: Of the answer's `X-Request-ID`.
        key: Which came with the request; empty when it was not looked for, or there is none.
        route: Template of the path.
        began_s: Moment of the clock's `monotonic` at which the head of the request was there.
        principal: Who asks; None until the key was checked.
        status: Of the answer; 499 until there is one, and for a client that leaves a stream.
        sent_bytes: Of the answer's body, so far.
        notes: Further fields of the access line.
        noted: The same as `telemetry.written` writes them, where that was done before.
        was_compared: Whether it is known that no equal request can answer it.
        raw: The body as it came; empty when it is longer than `KEPT_BODY_BYTES`, since it would be there twice.
    """

    __slots__ = (
        *("scope", "receive", "headers", "request_id", "key", "route"),
        *("began_s", "principal", "status", "sent_bytes", "notes", "noted", "raw", "was_compared"),
    )

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        *,
        headers: Mapping[bytes, bytes],
        request_id: str,
        route: str,
        began_s: float,
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.headers = headers
        self.request_id = request_id
        self.key = ""
        self.route = route
        self.began_s = began_s
        self.principal: Principal | None = None
        self.status = leaving.STATUS
        self.sent_bytes = 0
        self.notes: dict[str, object] | None = None
        self.noted = b""
        self.raw = b""
        self.was_compared = False

    def header(self, name: bytes) -> str | None:
        """Read one header, by its name in lower case; None when it is absent."""
        raw = self.headers.get(name)
        return None if raw is None else raw.decode("latin-1").strip()

    def note(self, **fields: object) -> None:
        """Add fields to the access line, which is written at the last byte; nothing that a client wrote as a prompt."""
        if self.notes is None:
            self.notes = fields
        else:
            self.notes.update(fields)

    @property
    def has_left(self) -> bool:
        """Whether the client is known to be gone; behind servers other than ours it is not known before it matters."""
        wire: leaving.Wire | None = self.scope.get(leaving.WIRE)
        return wire is not None and wire.has_left


@dataclass(slots=True)
class Reply:
    """An answer with headers of its own.

    Attributes:
        body: A struct, or JSON that is written already.
        headers: Beside those of every answer; names in lower case.
        lines: More of them, as `head_lines` that are known to be right.
    """

    body: msgspec.Struct | bytes
    headers: RawHeaders = ()
    status: int = 200
    lines: bytes = b""


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer of server-sent events.

    Attributes:
        events: Each is sent as it comes. When the client leaves it is cancelled where it waits, or closed.
        headers: Beside those of every stream; names in lower case.
        lines: More of them, as `head_lines`.
    """

    events: AsyncGenerator[bytes, None]
    headers: RawHeaders = ()
    lines: bytes = b""


Answer = msgspec.Struct | Reply | Stream | Response
Handler = Callable[[Request, Body, Principal], Awaitable[Answer]]

Finish = Callable[[Reply | Exception], None]
"""Takes an answer, or the reason why there is none."""

Again = Callable[[Request, Principal, Finish], bool]
"""Answers a request as an equal one was answered before: `again(request, principal, finish)`, where `request.raw` is
the body. False, and nothing has happened, where it has to be worked on; else `finish` is called later, once."""

_encoder = msgspec.json.Encoder()


class HotRoute(NamedRoute):
    """A POST route whose body and answer are msgspec structs.

    Attributes:
        handler: Answers a request that has been let in.
        decoder: Reads its body.
        scope: What its caller's key needs.
        dialect: Whose clients read its errors.
        request_type: Struct of the body.
        response_type: Struct of the JSON answer.
        event_type: Struct of one server-sent event, where the route can answer with a stream.
        named_events: Structs of events that are told apart by name, in place of that; the last one ends a stream.
        raises: Errors of the route beyond those that its form brings along, for the documentation.
        caches: Whether it can answer with what was kept, for the documentation.
        is_idempotent: Whether it takes `Idempotency-Key`, for the documentation.
        again: Is asked before the handler, if anything.
        summary: One line for the documentation.
    """

    def __init__(
        self,
        path: str,
        handler: Handler[Any],
        *,
        request_type: type[msgspec.Struct],
        response_type: type[msgspec.Struct],
        scope: str,
        dialect: Dialect,
        summary: str,
        event_type: type[msgspec.Struct] | None = None,
        named_events: Mapping[str, type[msgspec.Struct]] | None = None,
        raises: Sequence[type[errors.TrainyardError]] = (),
        caches: bool = False,
        is_idempotent: bool | None = None,
        again: Again | None = None,
    ) -> None:
        self.handler = handler
        self.decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(request_type)
        self.scope = scope
        self.dialect: Dialect = dialect
        self.request_type = request_type
        self.response_type = response_type
        self.event_type = event_type
        self.named_events = dict(named_events or {})
        self.raises = tuple(raises)
        self.caches = caches
        self.is_idempotent = errors.Conflict in self.raises if is_idempotent is None else is_idempotent
        self.again = again
        self.summary = summary
        super().__init__(path, self._answer, methods=["POST"], name=handler.__name__)

    async def _answer(self, request: StarletteRequest) -> Response:
        principal = await auth.authenticate(request, self.scope)
        seen = _seen(request, self.path)
        raw = await request.body()
        seen.raw = raw if len(raw) <= KEPT_BODY_BYTES else b""
        return _response(await self.handler(seen, decode(self.decoder, raw), principal))


def hot_route(
    path: str,
    handler: Handler[Body],
    *,
    request_type: type[Body],
    response_type: type[msgspec.Struct],
    scope: str,
    dialect: Dialect,
    summary: str,
    event_type: type[msgspec.Struct] | None = None,
    named_events: Mapping[str, type[msgspec.Struct]] | None = None,
    raises: Sequence[type[errors.TrainyardError]] = (),
    caches: bool = False,
    is_idempotent: bool | None = None,
    again: Again | None = None,
) -> HotRoute:
    """Make a hot route; `handler(request, body, principal)` answers with a struct, a `Reply` or a `Stream`.

    One that can raise errors.Conflict takes `Idempotency-Key`, unless `is_idempotent` says otherwise.
    """
    return HotRoute(
        path,
        handler,
        request_type=request_type,
        response_type=response_type,
        scope=scope,
        dialect=dialect,
        summary=summary,
        event_type=event_type,
        named_events=named_events,
        raises=raises,
        caches=caches,
        is_idempotent=is_idempotent,
        again=again,
    )


def content_of(body: msgspec.Struct | bytes) -> bytes:
    """Write the body of an answer."""
    return body if isinstance(body, bytes) else _encoder.encode(body)


def _response(answer: Answer) -> Response:
    if isinstance(answer, Response):
        return answer
    if isinstance(answer, Stream):
        made: Response = StreamingResponse(answer.events)
        made.raw_headers = [*STREAM_HEADERS, *answer.headers, *head_lines.pairs(answer.lines)]
        return made
    reply = answer if isinstance(answer, Reply) else Reply(answer)
    made = Response(content_of(reply.body), reply.status, media_type="application/json")
    made.raw_headers.extend([*reply.headers, *head_lines.pairs(reply.lines)])
    return made


def _seen(request: StarletteRequest, route: str) -> Request:
    state = request.state
    seen = Request(
        request.scope,
        request.receive,
        headers=first_of_each(request.scope["headers"]),
        request_id=state.request_id,
        route=route,
        began_s=state.began_s,
    )
    seen.principal, seen.notes = state.principal, state.notes
    return seen


def first_of_each(headers: RawHeaders) -> dict[bytes, bytes]:
    """Index raw headers by name."""
    return dict(reversed(headers))
