"""How long it takes until a stream that waits gets a place, measured from those that got one."""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from trainyard.core import errors

MAX_QUEUE: Final = 256
"""Streams that may wait where nothing else is said."""
WINDOW_S = 60.0
"""Starts that are older say nothing about the load of now."""
REMEMBERED = 64
SHORTEST_S, LONGEST_S = 0.05, 600.0


class Turnover:
    """Counts the starts of streams and tells those that are refused when to come again."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._starts: deque[float] = deque(maxlen=REMEMBERED)
        self._refused = 0  # since the last start

    def started(self) -> None:
        """Note that a stream which waited has its place."""
        self._starts.append(self._monotonic())
        self._refused = 0

    def overloaded(self, waiting: int, first_end_s: float) -> errors.Unavailable:
        """Build the refusal of one stream more.

        A place in the queue comes free with each start; the n-th caller that is refused since the last one is sent to
        the n-th place.

        Args:
            waiting: Streams that wait.
            first_end_s: When the first running stream ends at the latest; used while too few starts are known.
        """
        self._refused += 1
        now = self._monotonic()
        while self._starts and now - self._starts[0] > WINDOW_S:
            self._starts.popleft()
        interval_s = (now - self._starts[0]) / (len(self._starts) - 1) if len(self._starts) > 1 else first_end_s
        retry_after_s = min(LONGEST_S, max(SHORTEST_S, interval_s * self._refused))
        message = f"{waiting} streams wait for a place already; try again in {retry_after_s:.1f} s"
        return errors.Unavailable(message, code="engine_overloaded", retry_after_s=retry_after_s)
