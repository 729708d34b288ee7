"""Time as a dependency, so that expiry and deadlines are tested without sleeping."""

import time
from typing import Protocol


class Clock(Protocol):
    """What every part that looks at the time is given."""

    def now(self) -> float:
        """Unix time in seconds."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment; never goes back."""
        ...


class SystemClock:
    """The clock of this machine; a request looks at it a dozen times, so nothing stands between."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class FakeClock:
    """A clock that moves only when told to.

    Attributes:
        start: Unix time in seconds at which it stands first; the monotonic reading starts at 0.
    """

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self.start = start
        self._elapsed_s = 0.0

    def now(self) -> float:
        """Unix time in seconds."""
        return self.start + self._elapsed_s

    def monotonic(self) -> float:
        """Seconds that `advance` has added so far."""
        return self._elapsed_s

    def advance(self, seconds: float) -> None:
        """Move both readings forward."""
        if seconds < 0:
            raise ValueError("a clock does not go back")
        self._elapsed_s += seconds
