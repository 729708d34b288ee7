"""Bounds on the head of a request, its time and its size: a head costs a descriptor and memory, and needs no key."""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S: Final = 30.0
"""From the connection, or from the first byte of a further request on it, to the end of the headers."""

HEAD_BYTES: Final = 64 * 1024
"""Of request line and headers; what is over it by less than one read of the socket (256 KB) still passes."""


class BoundedHeads(HttpToolsProtocol):
    """Uvicorn's protocol, which bounds neither; bodies and answers are not bounded here.

    Attributes:
        head_timeout_s: After this, a connection whose headers are not complete is closed.
    """

    head_timeout_s = HEAD_TIMEOUT_S
    _deadline: asyncio.TimerHandle | None = None
    _seen_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._begin()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._end()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on unless they make a head too large."""
        if self._deadline is not None and self._seen_bytes > HEAD_BYTES:
            self.send_400_response(f"The headers are larger than {HEAD_BYTES} bytes; send less")
            return
        self._seen_bytes += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Wait for a further head."""
        super().on_message_begin()
        self._begin()

    def on_headers_complete(self) -> None:
        """Wait no longer."""
        self._end()
        super().on_headers_complete()

    def _begin(self) -> None:
        if self._deadline is None:
            self._seen_bytes = 0
            self._deadline = self.loop.call_later(self.head_timeout_s, self.transport.close)

    def _end(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
