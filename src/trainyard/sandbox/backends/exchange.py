"""The stream to a runner: orders out, their answers in; what a runner says is held to what it may say."""

import asyncio
from collections.abc import Callable, Mapping
from typing import cast

from trainyard.core import errors
from trainyard.sandbox.backends.base import OnOutput
from trainyard.sandbox.inside import frames

WINDOW_BYTES = 4 << 20
"""Of a file that is asked for at once: what a slow reader makes this process hold."""
_UNSENT_BYTES = 1 << 20

_ERRORS: Mapping[str, type[errors.TrainyardError]] = {
    "invalid_path": errors.InvalidRequest,
    "wrong_size": errors.InvalidRequest,
    "bad_state": errors.InvalidRequest,
    "workspace_full": errors.TooLarge,
    "state_too_large": errors.TooLarge,
    "not_found": errors.NotFound,
    "changed": errors.Conflict,
    "busy": errors.Conflict,
    "interpreter_gone": errors.Conflict,
}
"""By the code of a runner's `failed`; any other is a fault of ours."""


class Exchange:
    """One order and its answers.

    Args:
        on_output: Is given what code writes.
        max_bytes: Of output or content in all.
    """

    def __init__(self, on_output: OnOutput | None = None, max_bytes: int = WINDOW_BYTES) -> None:
        self.done: asyncio.Future[tuple[frames.Header, bytes]] = asyncio.get_running_loop().create_future()
        self.pieces: list[bytes] = []
        self._on_output, self._left_bytes = on_output, max_bytes

    def take(self, header: frames.Header, payload: bytes) -> None:
        """Take one answer; raises frames.BadFrame when there is more of it than was asked for."""
        if header.get("event") in ("out", "data"):
            self._left_bytes -= len(payload)
            if self._left_bytes < 0:
                raise frames.BadFrame("more than was asked for")
        match header.get("event"):
            case "out" if self._on_output is not None:
                self._on_output("stderr" if header.get("stream") == "stderr" else "stdout", payload)
            case "data":
                self.pieces.append(payload)
            case "done" if not self.done.done():
                self.done.set_result((header, payload))
            case "failed" if not self.done.done():
                self.done.set_exception(_error(header))


def _error(header: frames.Header) -> errors.TrainyardError:
    code, message = str(header.get("code")), str(header.get("message"))
    kind = _ERRORS.get(code)
    if kind is None:
        return errors.TrainyardError(f"the runner of a box refused an order ({code}): {message}")
    return kind(message, code=code)


class Stream(asyncio.Protocol):
    """The connection: frames in, frames out, and room to write."""

    def __init__(self, on_frame: Callable[[frames.Header, bytes], None], on_lost: Callable[[], None]) -> None:
        self._reader = frames.Reader()
        self._on_frame, self._on_lost = on_frame, on_lost
        self._room = asyncio.Event()
        self._room.set()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_UNSENT_BYTES)

    def data_received(self, data: bytes) -> None:
        """Hand every whole frame on; a runner that does not keep to the protocol is heard no more."""
        try:
            for header, payload in self._reader.feed(data):
                self._on_frame(header, payload)
        except frames.BadFrame:
            if self.transport is not None:
                self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`; whoever waits for room need not any more."""
        self._room.set()
        self._on_lost()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._room.clear()

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._room.set()

    async def send(self, header: frames.Header, payload: bytes = b"") -> None:
        """Write a frame, then wait until the other side has read most of what was written."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(frames.encode(header, payload))
        if not self._room.is_set():
            await self._room.wait()
