"""What every request passes through: id, size, headers, log line and metrics. Pure ASGI, so that streams stream."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trainyard.core import errors, ids
from trainyard.core.clock import Clock
from trainyard.core.http import leaving
from trainyard.core.http.access import AccessLines
from trainyard.core.http.routing import template_of
from trainyard.core.telemetry import REQUEST_ID

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_DOCS_PATHS = frozenset({"/docs", "/redoc", "/docs/oauth2-redirect"})

_MAX_BODY = "server.max_body_bytes"

_LONGEST_LENGTH = 18
"""Digits of a length that is still read as a number; int() refuses thousands of them."""

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


class RequestId:
    """Takes `X-Request-ID` from the client when it is usable, makes one otherwise, and sends it back."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Name the request in its state, in its log lines and in the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else new_request_id()
        # A copy: servers hand the same lifespan state to every request.
        scope["state"] = {**scope.get("state", {}), "request_id": request_id}

        async def naming(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = request_id
            await send(message)

        token = REQUEST_ID.set(request_id)
        try:
            await self._app(scope, receive, naming)
        finally:
            REQUEST_ID.reset(token)


def new_request_id() -> str:
    """Name a request that has no usable name."""
    return ids.hex_id("req_")


@dataclass(frozen=True, slots=True)
class BodyBar:
    """Paths whose bodies are bounded by something else than `server.max_body_bytes`.

    Attributes:
        paths: Matches whole paths.
        max_bytes: Of one body.
        setting: Which raises the bar.
    """

    paths: re.Pattern[str]
    max_bytes: int
    setting: str


class BodyLimit:
    """Refuses bodies over a size, by their declared length at once and by the bytes that really come otherwise."""

    def __init__(self, app: ASGIApp, max_body_bytes: int, bars: Sequence[BodyBar] = ()) -> None:
        self._app = app
        self._max_bytes = max_body_bytes
        self._bars = bars

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count what the application reads.

        Raises:
            errors.TooLarge: The body is over the limit; also while the application reads it.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "")
        max_bytes, setting = self._bar_of(scope["path"])
        if is_longer(declared, max_bytes):
            raise too_large(max_bytes, setting)
        seen_bytes = 0

        async def counting() -> Message:
            nonlocal seen_bytes
            message = await receive()
            seen_bytes += len(message.get("body", b""))
            if seen_bytes > max_bytes:
                raise too_large(max_bytes, setting)
            return message

        await self._app(scope, counting, send)

    def _bar_of(self, path: str) -> tuple[int, str]:
        for bar in self._bars:
            if bar.paths.fullmatch(path):
                return bar.max_bytes, bar.setting
        return self._max_bytes, _MAX_BODY


def is_longer(declared: str, max_bytes: int) -> bool:
    """Whether a `Content-Length` says that the body is larger than this."""
    return declared.isdecimal() and (len(declared) > _LONGEST_LENGTH or int(declared) > max_bytes)


def too_large(max_bytes: int, setting: str = _MAX_BODY) -> errors.TooLarge:
    """Say how large a body may be, and which setting says so."""
    return errors.TooLarge(
        f"The body is larger than {max_bytes} bytes; send less at once, or raise {setting}",
        data={"max_body_bytes": max_bytes},
    )


class SecurityHeaders:
    """Adds the headers that keep browsers from guessing, framing and caching."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Set each header that the route has not set itself; the documentation page may load its scripts."""

        async def hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    if name != "Content-Security-Policy" or scope["path"] not in _DOCS_PATHS:
                        headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, hardened if scope["type"] == "http" else send)


class AccessLog:
    """Writes one line and counts once per request, when its last byte is out."""

    def __init__(self, app: ASGIApp, lines: AccessLines, clock: Clock) -> None:
        self._app = app
        self._lines = lines
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Watch the answer go by. Status 499 stands for a client that left before there was one."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, sent_bytes, began_s = leaving.STATUS, 0, self._clock.monotonic()
        state = scope.setdefault("state", {})
        state["began_s"], state["notes"] = began_s, {}
        if scope.get("client", ()) is None:  # over a unix socket: another process of this server, which counts it
            await self._app(scope, receive, send)
            return

        async def watching(message: Message) -> None:
            nonlocal status, sent_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
            sent_bytes += len(message.get("body", b""))
            await send(message)

        self._lines.begin()
        try:
            await self._app(scope, receive, watching)
        finally:
            self._lines.end(
                method=scope["method"],
                path=scope["path"],
                route=template_of(scope),
                status=status,
                sent_bytes=sent_bytes,
                took_s=self._clock.monotonic() - began_s,
                principal=state.get("principal"),
                notes=state["notes"],
            )
