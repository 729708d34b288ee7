"""Ending without breaking what runs."""

import asyncio

from starlette.types import ASGIApp, Receive, Scope, Send

from trainyard.core import errors
from trainyard.core.http.routing import PUBLIC_PATHS


class Drain:
    """Counts running requests and, once begun, lets no new ones in.

    After `begin`, `/readyz` is 503 and a new request is refused with 503 `draining`, `Connection: close` and
    `Retry-After: 1`, so that a client on a kept connection goes elsewhere; health, metrics and documentation still
    answer. Requests that run, streams included, go on until they end or the deadline of `wait` passes.

    Attributes:
        is_draining: Whether `begin` was called.
        in_flight: Requests that run now, public paths not counted.
    """

    def __init__(self) -> None:
        self.is_draining = False
        self.in_flight = 0
        self._idle: asyncio.Event | None = None  # once somebody waits

    def begin(self) -> None:
        """Flip readiness and refuse new requests; calling it again changes nothing."""
        self.is_draining = True

    def enter(self) -> None:
        """Count one more running request.

        Raises:
            errors.Unavailable: Code `draining`; nothing was counted.
        """
        if self.is_draining:
            raise errors.Unavailable(
                "This server is shutting down; send the request again", code="draining", retry_after_s=1
            )
        self.in_flight += 1

    def leave(self) -> None:
        """Count one less."""
        self.in_flight -= 1
        if self._idle is not None and self.in_flight == 0:
            self._idle.set()

    async def wait(self, timeout_s: float) -> int:
        """Wait until nothing runs; returns how many requests still ran at the deadline (0 = all done)."""
        if self.in_flight == 0:
            return 0
        self._idle = self._idle or asyncio.Event()
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            pass
        return self.in_flight


class DrainGate:
    """Pure ASGI middleware in front of everything that works."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self._app = app
        self._drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the request, or refuse it as `Drain.enter` does."""
        if scope["type"] != "http" or scope["path"] in PUBLIC_PATHS:
            await self._app(scope, receive, send)
            return
        self._drain.enter()
        try:
            await self._app(scope, receive, send)
        finally:
            self._drain.leave()
