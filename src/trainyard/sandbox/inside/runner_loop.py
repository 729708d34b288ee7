"""The runner's loop: descriptors, one alarm, and children that end."""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from types import FrameType

from trainyard.sandbox.inside import processes

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT
_FOREVER = -1.0


class Loop:
    """Calls whom a descriptor, the alarm or a child concerns; nothing in it waits but the poll."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._alarm_at: float | None = None
        self._on_alarm: Callable[[], None] = lambda: None
        self._is_over = False

    def watch(self, descriptor: int, handler: Callable[[int], None], events: int = READABLE) -> None:
        """Call `handler(events)` when the descriptor is ready."""
        self._handlers[descriptor] = handler
        self._epoll.register(descriptor, events)

    def change(self, descriptor: int, events: int) -> None:
        """Wait for other events of it."""
        self._epoll.modify(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """Wait for it no more."""
        if self._handlers.pop(descriptor, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(descriptor)

    def alarm(self, at: float | None, call: Callable[[], None]) -> None:
        """Call once at that time of `time.monotonic`; there is one alarm, and None takes it back."""
        self._alarm_at, self._on_alarm = at, call

    def on_children(self, call: Callable[[], None]) -> None:
        """Call when children have ended; must be set in the main thread."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _nothing)
        processes.hear_only_ends()

        def awake(_events: int) -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(reading, 4096)
            call()

        self.watch(reading, awake)

    def stop(self) -> None:
        """Let `run` return."""
        self._is_over = True

    def run(self) -> None:
        """Serve until `stop`."""
        while not self._is_over:
            for descriptor, events in self._epoll.poll(self._timeout_s()):
                handler = self._handlers.get(descriptor)
                if handler is not None:
                    handler(events)
            if self._alarm_at is not None and time.monotonic() >= self._alarm_at:
                self._alarm_at = None
                self._on_alarm()

    def _timeout_s(self) -> float:
        return _FOREVER if self._alarm_at is None else max(self._alarm_at - time.monotonic(), 0.0)

    def close(self) -> None:
        """Give the poll back, in a child."""
        self._epoll.close()


def _nothing(signum: int, frame: FrameType | None) -> None:
    """Take a signal whose arrival is all that matters; unlike SIG_IGN it is not handed on to programs."""
