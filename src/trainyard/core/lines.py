"""Log lines on their way out: gathered for a moment and written together, so that a line costs no system call."""

import asyncio
import io
import os
import select
import stat
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import IO, Final

GATHER_S: Final = 0.1
"""Longest time that a line waits while a loop runs; what a `kill -9` can take with it."""

GATHER_LINES: Final = 500
"""Lines that are written at once without waiting for the time."""

MAX_PENDING_LINES: Final = 20_000
"""Lines that are kept while their reader is slow, about 8 MB; further ones are dropped and counted."""

_PIPE_BYTES: Final = select.PIPE_BUF
"""What a pipe that polls as writable takes without blocking (pipe(7))."""


class Lines:
    """Bounded buffer in front of a stream. Lines keep their order, whatever thread they come from.

    A reader that does not read blocks nobody while a loop runs: the lines wait, and beyond the bound they are dropped.
    Without a running loop `put` and `write` wait for the reader, as a plain write does.

    Attributes:
        dropped: Lines that were never written: over the bound, or refused by the disk.
        on_drop: Told how many were dropped, each time.
    """

    def __init__(self, stream: Callable[[], IO[str]] = lambda: sys.stderr, *, max_pending: int = MAX_PENDING_LINES):
        self.dropped = 0
        self.on_drop: Callable[[int], None] = lambda _: None
        self._stream = stream
        self._max_pending = max_pending
        self._pending: deque[bytes] = deque()
        self._rest = memoryview(b"")
        self._writing = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None  # which has a timer for us
        self._thread = 0  # in which it runs

    def put(self, line: bytes) -> None:
        """Add a line, without its end; it is written within `GATHER_S`."""
        pending = self._pending
        if len(pending) >= self._max_pending:
            self._drop(1)
            return
        pending.append(line)
        loop = self._loop
        if loop is None or threading.get_ident() != self._thread or not loop.is_running():
            self._put_elsewhere()
        elif len(pending) % GATHER_LINES == 0:
            self.flush()

    def write(self, line: bytes) -> None:
        """Add a line and write it, and all before it, now if the reader takes them."""
        self.put(line)
        self.flush()

    def flush(self, wait_s: float | None = 0.0) -> bool:
        """Write what is there; false when something is left.

        Args:
            wait_s: How long to wait for a slow reader; None = until it reads.
        """
        ends_at = None if wait_s is None else time.monotonic() + wait_s
        if not self._writing.acquire(blocking=wait_s != 0.0, timeout=wait_s if wait_s else -1):
            return False  # another thread is at it, and takes our lines too
        try:
            return self._write_out(ends_at)
        except (OSError, ValueError):  # a full disk, a reader that is gone, a closed stream: all one can do is count
            self._drop(self._forget())
            return True
        finally:
            self._writing.release()

    def _put_elsewhere(self) -> None:
        """Have a line written that was put where no loop with a timer of ours runs; to ask which one runs is slow."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush(None)
        else:
            self._wait(loop)

    def _drop(self, lines: int) -> None:
        self.dropped += lines
        self.on_drop(lines)

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._thread = loop, threading.get_ident()
        loop.call_later(GATHER_S, self._at_the_time, loop)

    def _at_the_time(self, loop: asyncio.AbstractEventLoop) -> None:
        if self.flush():
            self._loop = None
        else:
            self._wait(loop)

    def _write_out(self, ends_at: float | None) -> bool:
        stream = self._stream()
        descriptor = _descriptor(stream)
        can_block = descriptor is not None and not stat.S_ISREG(os.fstat(descriptor).st_mode)
        stream.flush()  # what others have written to it comes first
        while self._take():
            if descriptor is None:
                stream.write(bytes(self._rest).decode(errors="replace"))
                self._rest = self._rest[len(self._rest) :]
            elif can_block and not _is_writable(descriptor, ends_at):
                return False
            else:
                chunk = self._rest[:_PIPE_BYTES] if can_block else self._rest
                self._rest = self._rest[os.write(descriptor, chunk) :]
        return True

    def _take(self) -> bool:
        """Make one piece of all lines that are there, unless a piece is on its way; false when nothing is left."""
        if not self._rest:
            lines = [self._pending.popleft() for _ in range(len(self._pending))]
            self._rest = memoryview(b"\n".join([*lines, b""]) if lines else b"")
        return bool(self._rest)

    def _forget(self) -> int:
        lost = bytes(self._rest).count(b"\n")
        self._rest = memoryview(b"")
        return lost


def _descriptor(stream: IO[str]) -> int | None:
    try:
        return stream.fileno()
    except io.UnsupportedOperation:  # a stream in memory
        return None


def _is_writable(descriptor: int, ends_at: float | None) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    wait_ms = None if ends_at is None else max(0.0, ends_at - time.monotonic()) * 1000
    return bool(poll.poll(wait_ms))
