"""Connections that do not say what they want: closed after a while, since they cost a descriptor and need no key."""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S: Final = 30.0
"""From the connection, or from the first byte of a further request on it, to the end of the headers."""


def bounded(timeout_s: float = HEAD_TIMEOUT_S) -> type[HttpToolsProtocol]:
    """Make uvicorn's protocol with a bound on the time that headers take; bodies and answers are not bounded here."""

    class Bounded(HttpToolsProtocol):
        _deadline: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._begin()

        def connection_lost(self, exc: Exception | None) -> None:
            self._end()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._begin()

        def on_headers_complete(self) -> None:
            self._end()
            super().on_headers_complete()

        def _begin(self) -> None:
            if self._deadline is None:
                self._deadline = self.loop.call_later(timeout_s, self.transport.close)

        def _end(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

    return Bounded
