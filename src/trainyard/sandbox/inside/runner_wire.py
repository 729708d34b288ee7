"""The runner's end of the stream to the server."""

import contextlib
import os
from collections import deque
from collections.abc import Callable

from trainyard.sandbox.inside import frames
from trainyard.sandbox.inside.runner_loop import READABLE, WRITABLE, Loop

_READ_BYTES = 64 << 10
FULL_BYTES = 1 << 20
"""Waiting for the server; who produces more is held back until it has read."""


class Wire:
    """Frames in and out, never waiting for the server.

    Args:
        reading: Descriptor to read orders from; `writing` may be the same.
        on_frame: Called with every frame.
        on_end: Called once when the server is gone.
    """

    def __init__(
        self,
        loop: Loop,
        reading: int,
        writing: int,
        on_frame: Callable[[frames.Header, bytes], None],
        on_end: Callable[[], None],
    ) -> None:
        self._loop, self._reading, self._writing = loop, reading, writing
        self._on_frame, self._on_end = on_frame, on_end
        self._reader = frames.Reader()
        self._waiting: deque[memoryview] = deque()
        self._waiting_bytes = 0
        self._is_ended = False
        self.on_room: Callable[[], None] = lambda: None
        for descriptor in {reading, writing}:
            os.set_blocking(descriptor, False)
        loop.watch(reading, self._ready)

    @property
    def is_full(self) -> bool:
        """Whether producers have to wait; `on_room` is called when they may go on."""
        return self._waiting_bytes > FULL_BYTES

    def send(self, header: frames.Header, payload: bytes = b"") -> None:
        """Send a frame, now or as soon as the server reads."""
        frame = memoryview(frames.encode(header, payload))
        if not self._waiting:
            frame = frame[self._write(frame) :]
            if frame:
                self._await_room(True)
        if frame and not self._is_ended:
            self._waiting.append(frame)
            self._waiting_bytes += len(frame)

    def _write(self, frame: memoryview) -> int:
        try:
            return os.write(self._writing, frame)
        except BlockingIOError:
            return 0
        except OSError:
            self._end()
            return 0

    def _ready(self, events: int) -> None:
        if events & WRITABLE:
            self._flush()
        if events & ~WRITABLE:
            self._read()

    def _flush(self) -> None:
        was_full = self.is_full
        while self._waiting:
            frame = self._waiting[0]
            written = self._write(frame)
            self._waiting_bytes -= written
            if written < len(frame):
                self._waiting[0] = frame[written:]
                break
            self._waiting.popleft()
        else:
            self._await_room(False)
        if was_full and not self.is_full:
            self.on_room()

    def _await_room(self, is_wanted: bool) -> None:
        if self._is_ended:
            return
        if self._reading == self._writing:
            self._loop.change(self._reading, READABLE | WRITABLE if is_wanted else READABLE)
        elif is_wanted:
            self._loop.watch(self._writing, self._ready, WRITABLE)
        else:
            self._loop.forget(self._writing)

    def _read(self) -> None:
        try:
            received = os.read(self._reading, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._end()
            return
        try:
            for header, payload in self._reader.feed(received):
                self._on_frame(header, payload)
        except frames.BadFrame:
            self._end()

    def _end(self) -> None:
        if not self._is_ended:
            self._is_ended = True
            self._on_end()

    def close(self) -> None:
        """Give the descriptors back, in a child."""
        for descriptor in {self._reading, self._writing}:
            with contextlib.suppress(OSError):
                os.close(descriptor)
