"""The pipes that the outputs of a run come through: open before there is one, so that no run waits for them."""

import os
from collections.abc import Callable

from trainyard.sandbox.inside.outputs import READ_BYTES
from trainyard.sandbox.inside.runner_loop import Loop

STREAMS = ("stdout", "stderr")


class Pipes:
    """A pair of them, for one run.

    The ends for the code stay open here too: that it closes its own, as at each of its ends, wakes nobody.

    Attributes:
        writing: The ends for the code, in the order of `STREAMS`.
        on_ready: Called with the name of a stream that can be read.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.on_ready: Callable[[str], object] = lambda _name: None
        self.writing: list[int] = []
        self._reading: dict[str, int] = {}
        try:
            for name in STREAMS:
                self._reading[name], writing = os.pipe2(os.O_CLOEXEC)
                self.writing.append(writing)
                os.set_blocking(self._reading[name], False)
            self.go_on()
        except OSError:
            self.close()
            raise

    def go_on(self) -> None:
        """Tell when there is something to read."""
        for name in self._reading:
            self._watch(name)

    def hold_back(self) -> None:
        """Tell of nothing until `go_on`: who writes has to wait when the pipe is full."""
        for reading in self._reading.values():
            self._loop.forget(reading)

    def _watch(self, name: str) -> None:
        self._loop.watch(self._reading[name], lambda _events: self._tell(name))

    def _tell(self, name: str) -> None:
        self.on_ready(name)

    def read(self, name: str) -> bytes:
        """Read what is there of a stream, at most `READ_BYTES`; empty when there is nothing."""
        try:
            return os.read(self._reading[name], READ_BYTES)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """Give all of it back, also of a pair that came about in part."""
        self.hold_back()
        for descriptor in (*self._reading.values(), *self.writing):
            os.close(descriptor)
        self._reading.clear()
        self.writing.clear()
