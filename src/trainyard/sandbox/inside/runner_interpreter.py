"""The runner's side of its interpreter: forked ahead of time, spoken to without waiting, replaced when it is gone."""

import contextlib
import gc
import os
import signal
import socket
from collections.abc import Callable, Sequence

from trainyard.sandbox.inside import frames, interpreter, processes
from trainyard.sandbox.inside.runner_loop import READABLE, WRITABLE, Loop

_READ_BYTES = 64 << 10


class Interpreter:
    """One interpreter process.

    Args:
        on_child: Called in the new process before anything else: gives back what is the runner's.
        on_frame: Called with each answer; a process that does not keep to the protocol is killed.

    Attributes:
        variables: Names defined, when it last told.
        is_fresh: Whether it was as a new one, when it last told.
        is_gone: Whether it has ended, and was waited for.
        is_distrusted: Whether it was killed for what it said; it is heard no more.
        record_bytes: Most resident memory that it had, when it was last asked.
    """

    def __init__(
        self,
        loop: Loop,
        surroundings: interpreter.Surroundings,
        on_child: Callable[[], None],
        on_frame: Callable[[frames.Header], None],
    ) -> None:
        self._loop, self._on_frame = loop, on_frame
        self._reader = frames.Reader(interpreter.MAX_ANSWER_BYTES, 0)
        self._unsent = memoryview(b"")
        self.variables, self.is_fresh, self.is_gone, self.record_bytes = 0, True, False, 0
        self.is_distrusted = False
        self._link, theirs = socket.socketpair()
        self.pid = self._fork(theirs)
        if self.pid == 0:
            self._link.close()
            on_child()
            interpreter.serve(theirs, surroundings)
        theirs.close()
        self._link.setblocking(False)
        loop.watch(self._link.fileno(), self._ready)

    def _fork(self, theirs: socket.socket) -> int:
        """Fork a child that is deaf to SIGINT from its first moment on."""
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        pid = -1
        try:
            pid = os.fork()
        finally:
            if pid:
                signal.signal(signal.SIGINT, handler)
            if pid < 0:
                self._link.close()
                theirs.close()
        return pid

    def send(self, header: frames.Header, descriptors: Sequence[int] = ()) -> None:
        """Have it work on an order; it was stopped while there was none."""
        frame = memoryview(frames.encode(header))
        sent = 0
        with contextlib.suppress(OSError):
            sent = socket.send_fds(self._link, [frame], list(descriptors))
        self._unsent = frame[sent:]
        if self._unsent:
            self._watch(READABLE | WRITABLE)
        processes.signal_each([self.pid], signal.SIGCONT)

    def _watch(self, events: int) -> None:
        if self._link.fileno() >= 0:
            self._loop.change(self._link.fileno(), events)

    def _ready(self, events: int) -> None:
        if events & WRITABLE:
            self._flush()
        if events & ~WRITABLE:
            self._read()

    def _flush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                self._unsent = self._unsent[self._link.send(self._unsent) :]
            except BrokenPipeError:
                self._unsent = memoryview(b"")
        if not self._unsent:
            self._watch(READABLE)

    def _read(self) -> None:
        try:
            received = self._link.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self.close()  # it ends as soon as it comes to its next answer, or at a limit of what runs
            return
        try:
            for header, _payload in self._reader.feed(received):
                if not self.is_distrusted:
                    self._on_frame(header)
        except frames.BadFrame:
            self.distrust()

    def distrust(self) -> None:
        """End it for what it says; its death is reported as that of any child."""
        self.is_distrusted = True
        processes.signal_each([self.pid], signal.SIGKILL)

    def close(self) -> None:
        """Give its socket back."""
        if self._link.fileno() >= 0:
            self._loop.forget(self._link.fileno())
            self._link.close()


def freeze_heap() -> None:
    """Keep the collector from touching, and so copying, pages that interpreters share with the runner."""
    gc.collect()
    gc.freeze()
