"""The hot door: what the middlewares and the router do to a request, in one pass, for the routes that work through it.

Everything else passes to the application behind it. An answer of the door is the answer that the stack behind it gives:
the same functions make errors, keys and headers.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from functools import partial
from typing import Final, NamedTuple, Self

import structlog
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trainyard.core import errors, head_lines
from trainyard.core.clock import Clock
from trainyard.core.http import edge, hot, leaving, middleware
from trainyard.core.http.access import AccessLines
from trainyard.core.http.auth import KeyChecker, choose_key, require_scope
from trainyard.core.http.bodies import decode
from trainyard.core.http.credentials import MAX_KEYED_BYTES, Credentials
from trainyard.core.http.drain import Drain
from trainyard.core.http.hot import HotRoute, RawHeaders, Request
from trainyard.core.http.known_head import KNOWN_HEAD, KnownHead
from trainyard.core.http.routing import DialectMap
from trainyard.core.principal import Principal
from trainyard.core.telemetry import REQUEST_ID

_log = structlog.get_logger("http")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,64}")

_SECURITY: Final[RawHeaders] = tuple(
    (name.lower().encode(), value.encode()) for name, value in middleware.SECURITY_HEADERS.items()
)
_SECURITY_NAMES: Final = frozenset(name for name, _ in _SECURITY)
_BEGUN: Final = "trainyard.begun"
"""Key of an ASGI scope for what `at_once` leaves to the call that follows."""

_ANSWERS: Final = (hot.Reply, hot.Stream, Response)
_JSON: Final = (b"content-type", b"application/json")

_HEAD: Final = (
    b"content-length: %d\r\ncontent-type: application/json\r\n%b"
    + b"".join(b"%b: %b\r\n" % pair for pair in _SECURITY)
    + b"x-request-id: %b\r\n"
)
"""Head of a JSON answer: length of the body, lines of its own, request id."""


class HotDoor:
    """Outermost ASGI application in front of the one with all routes.

    Args:
        app: Gets everything that is no POST on a hot route.
        routes: Found by their path; none has parameters.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Iterable[HotRoute],
        *,
        checker: KeyChecker,
        drain: Drain,
        lines: AccessLines,
        clock: Clock,
        dialect_map: DialectMap,
        max_body_bytes: int,
        credentials: Credentials | None = None,
    ) -> None:
        self._app = app
        self._routes = {route.path: route for route in routes}
        self._checker = checker
        self._drain = drain
        self._lines = lines
        self._monotonic = clock.monotonic
        self._dialects = dialect_map
        self._max_body_bytes = max_body_bytes
        self._credentials = credentials
        self._covered = frozenset(path for path in self._routes if credentials is not None and credentials.covers(path))
        self._finishing: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a hot request, pass everything else on.

        This is the edge of hot requests: their exceptions end here, as those of others do in `edge.ErrorEdge`.
        """
        begun: tuple[HotRoute, Request] | None = scope.pop(_BEGUN, None) or self._begin(scope, receive)
        if begun is None:
            await self._app(scope, receive, send)
            return
        route, request = begun
        token = REQUEST_ID.set(request.request_id)
        self._lines.begin()
        try:
            self._drain.enter()
            try:
                answer = await self._answer(route, request)
                wire: leaving.Wire | None = scope.get(leaving.WIRE)
                if wire is None or not isinstance(answer, hot.Reply) or not _write_whole(request, answer, wire):
                    await self._send(request, answer, send)
            finally:
                self._drain.leave()
        except ClientDisconnect:
            request.status = leaving.STATUS  # nobody is left to answer
        except Exception as error:
            if request.status != leaving.STATUS:
                _log.error("failed_after_start", exc_info=error)
                raise  # the server closes the connection, so that the client does not take a torso for the whole
            await self._fail(request, error, send)
        finally:
            self._lines.end_hot(request, self._monotonic() - request.began_s)
            REQUEST_ID.reset(token)
            scope.pop(leaving.WIRE, None)  # they hold each other

    def at_once(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Answer a request as an equal one was answered before, without a task of its own.

        Args:
            scope: With the `Wire` of the request.
            receive: For `__call__`.
            send: For an answer that cannot be written in one piece.

        Returns:
            Whether it is, or will be, answered; otherwise `__call__` has to follow, which begins where this ended.
        """
        begun = self._begin(scope, receive)
        if begun is None:
            return False
        route, request = begun
        if self._drain.is_draining or not self._is_done_again(route, request, partial(self._finish, request, send)):
            scope[_BEGUN] = begun
            return False
        self._lines.begin()
        self._drain.enter()
        return True

    def _is_done_again(self, route: HotRoute, request: Request, finish: hot.Finish) -> bool:
        """Recognise the key, and see whether the route can answer at once; who may not, is told so by the long way."""
        try:
            principal = request.principal = self._checker.recognise(request.key)
            wire: leaving.Wire = request.scope[leaving.WIRE]
            raw = wire.peek_body()
            if route.again is None or principal is None or raw is None or route.scope not in principal.scopes:
                return False
            request.was_compared = True
            request.raw = raw if len(raw) <= hot.KEPT_BODY_BYTES else b""
            return route.again(request, principal, finish)
        except errors.TrainyardError:  # the key or the model was taken away at this very moment
            return False

    def _finish(self, request: Request, send: Send, answer: hot.Reply | Exception) -> None:
        """End a request that `at_once` began."""
        wire: leaving.Wire = request.scope[leaving.WIRE]
        if wire.has_left or (isinstance(answer, hot.Reply) and _write_whole(request, answer, wire)):
            self._end(request)
        else:
            task = asyncio.get_running_loop().create_task(self._finish_slowly(request, send, answer))
            self._finishing.add(task)
            task.add_done_callback(self._finishing.discard)

    async def _finish_slowly(self, request: Request, send: Send, answer: hot.Reply | Exception) -> None:
        token = REQUEST_ID.set(request.request_id)
        try:
            if isinstance(answer, hot.Reply):
                await self._send(request, answer, send)
            else:
                await self._fail(request, answer, send)
        finally:
            self._end(request)
            REQUEST_ID.reset(token)

    def _end(self, request: Request) -> None:
        self._drain.leave()
        self._lines.end_hot(request, self._monotonic() - request.began_s)
        del request.scope[leaving.WIRE]

    async def _fail(self, request: Request, error: Exception, send: Send) -> None:
        _name_scope(request)
        await self._send_response(request, edge.answer(error, request.scope, self._dialects), send)

    def _begin(self, scope: Scope, receive: Receive) -> tuple[HotRoute, Request] | None:
        """Take note of a request; None where it is not for this door."""
        route = self._routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == "POST" else None
        if route is None:
            return None
        known: KnownHead | None = scope.get(KNOWN_HEAD)
        derived = known and known.derived
        if not isinstance(derived, _Derived):
            derived = _Derived.of(scope["headers"])
            if known is not None:
                del derived.headers[b"content-length"]  # of this request alone
                known.derived = derived
        given = derived.headers.get(b"x-request-id")
        is_usable = given is not None and _REQUEST_ID.fullmatch(given)
        request_id = given.decode() if given is not None and is_usable else middleware.new_request_id()
        request = Request(
            scope,
            receive,
            headers=derived.headers,
            request_id=request_id,
            route=route.path,
            began_s=self._monotonic(),
        )
        request.key = derived.key
        return route, request

    async def _answer(self, route: HotRoute, request: Request) -> hot.Reply | hot.Stream | Response:
        principal = request.principal
        if principal is None:
            principal = request.principal = await self._of_head(route, request)
        max_bytes = self._max_body_bytes if principal else min(self._max_body_bytes, MAX_KEYED_BYTES)
        wire: leaving.Wire | None = request.scope.get(leaving.WIRE)
        raw = None if wire is None else wire.take_body()
        if raw is None:
            is_too_large = middleware.is_longer(_text(request.headers, b"content-length"), max_bytes)
        else:
            is_too_large = len(raw) > max_bytes
        if is_too_large:
            raise middleware.too_large(max_bytes)
        if principal is not None:
            require_scope(principal, route.scope)
        if raw is None:
            raw = await self._body(request.receive, max_bytes)
        if principal is None:
            principal = request.principal = await self._of_body(request, raw)
            require_scope(principal, route.scope)
        request.raw = raw if len(raw) <= hot.KEPT_BODY_BYTES else b""
        if route.again is not None and not request.was_compared:
            told: asyncio.Future[hot.Reply | Exception] = asyncio.get_running_loop().create_future()
            if route.again(request, principal, partial(_tell, told)):
                return _raised(await told, request)
        answer = await route.handler(request, decode(route.decoder, raw), principal)
        return answer if isinstance(answer, _ANSWERS) else hot.Reply(answer)

    async def _of_head(self, route: HotRoute, request: Request) -> Principal | None:
        """Tell who asks; None where the body may tell."""
        headers, key = request.headers, request.key
        if self._credentials is not None and route.path in self._covered:
            return await self._credentials.of_head(key)
        key = key or choose_key(_text(headers, b"authorization"), _text(headers, b"x-api-key"))
        return self._checker.recognise(key) or await self._checker.check(key)

    async def _of_body(self, request: Request, raw: bytes) -> Principal:
        if self._credentials is None:
            raise AssertionError("only they leave a caller unknown")
        return await self._credentials.of_body(request.scope, raw)

    async def _body(self, receive: Receive, max_bytes: int) -> bytes:
        parts, size_bytes = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            parts.append(message.get("body", b""))
            size_bytes += len(parts[-1])
            if size_bytes > max_bytes:
                raise middleware.too_large(max_bytes)
            if not message.get("more_body", False):
                return b"".join(parts)

    # ------------------------------------------------------------------ sending

    async def _send(self, request: Request, answer: hot.Reply | hot.Stream | Response, send: Send) -> None:
        if isinstance(answer, Response):
            _name_scope(request)
            await self._send_response(request, answer, send)
        elif isinstance(answer, hot.Stream):
            await self._send_stream(request, answer, send)
        else:
            await self._send_plain(request, answer, send)

    async def _send_plain(self, request: Request, reply: hot.Reply, send: Send) -> None:
        content = hot.content_of(reply.body)
        length = (b"content-length", b"%d" % len(content))
        raw = _hardened([length, _JSON, *reply.headers, *head_lines.pairs(reply.lines)], request)
        request.status = reply.status
        await send({"type": "http.response.start", "status": reply.status, "headers": raw})
        request.sent_bytes = len(content)
        await send({"type": "http.response.body", "body": content})

    async def _send_response(self, request: Request, response: Response, send: Send) -> None:
        async def watching(message: Message) -> None:
            if message["type"] == "http.response.start":
                request.status = message["status"]
                message["headers"] = _hardened(message["headers"], request)
            request.sent_bytes += len(message.get("body", b""))
            await send(message)

        await response(request.scope, request.receive, watching)

    async def _send_stream(self, request: Request, stream: hot.Stream, send: Send) -> None:
        mine = [*stream.headers, *head_lines.pairs(stream.lines)]
        own = {name for name, _ in mine}
        raw = [*(pair for pair in hot.STREAM_HEADERS if pair[0] not in own), *mine]
        async with aclosing(stream.events):
            request.status = 200
            await send({"type": "http.response.start", "status": 200, "headers": _hardened(raw, request)})
            await leaving.while_connected(request, _pump(request, stream.events, send))


class _Derived(NamedTuple):
    """What the door makes of a head.

    Attributes:
        headers: By name.
        key: Empty where there is none.
    """

    headers: dict[bytes, bytes]
    key: str

    @classmethod
    def of(cls, raw: RawHeaders) -> Self:
        """Read the headers."""
        headers = hot.first_of_each(raw)
        try:
            key = choose_key(_text(headers, b"authorization"), _text(headers, b"x-api-key"))
        except errors.Unauthenticated:
            key = ""
        return cls(headers, key)


def _tell(told: asyncio.Future[hot.Reply | Exception], answer: hot.Reply | Exception) -> None:
    if not told.done():  # the server cancels what runs when it ends
        told.set_result(answer)


def _raised(answer: hot.Reply | Exception, request: Request) -> hot.Reply:
    if request.has_left:
        raise ClientDisconnect
    if isinstance(answer, Exception):
        raise answer
    return answer


def _name_scope(request: Request) -> None:
    """Put the id where `edge` and responses look for it, in a copy: servers hand the same state to every request."""
    request.scope["state"] = {**request.scope.get("state", {}), "request_id": request.request_id}


def _text(headers: Mapping[bytes, bytes], name: bytes) -> str:
    raw = headers.get(name)
    return "" if raw is None else raw.decode("latin-1")


async def _pump(request: Request, events: AsyncGenerator[bytes, None], send: Send) -> None:
    try:
        async for event in events:
            request.sent_bytes += len(event)
            await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    except OSError as error:  # how some servers tell that the client is gone
        raise ClientDisconnect from error


def _hardened(headers: Iterable[tuple[bytes, bytes]], request: Request) -> list[tuple[bytes, bytes]]:
    """Add what every answer carries and the route has not set itself; the request's id is not the route's to set."""
    raw = list(headers)
    own = {name for name, _ in raw}
    request_id = request.request_id.encode()
    if b"x-request-id" in own:
        raw = [(name, request_id if name == b"x-request-id" else value) for name, value in raw]
    raw += [pair for pair in _SECURITY if pair[0] not in own]
    return raw if b"x-request-id" in own else [*raw, (b"x-request-id", request_id)]


def _write_whole(request: Request, reply: hot.Reply, wire: leaving.Wire) -> bool:
    """Write a JSON answer in one piece; false, and nothing is written, where that cannot be done."""
    content = hot.content_of(reply.body)
    own = _lines(reply.headers) if reply.headers else b""
    if own is None:
        return False
    size = len(content)
    if not wire.write_whole(reply.status, _HEAD % (size, own + reply.lines, request.request_id.encode()), content):
        return False
    request.status, request.sent_bytes = reply.status, size
    return True


def _lines(headers: RawHeaders) -> bytes | None:
    """Write headers as lines; None where they are not the usual ones."""
    own = b"".join([b"%b: %b\r\n" % pair for pair in headers])
    if (
        own.count(b"\n") != len(headers)  # a value that would break its line
        or own.count(b"\r") != len(headers)
        or b"\0" in own
        or not _SECURITY_NAMES.isdisjoint(dict(headers))
    ):
        return None
    return own
