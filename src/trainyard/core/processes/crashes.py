"""How long to wait after a crash, and when to give up."""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

CRASH_LIMIT: Final = 5
CRASH_WINDOW_S: Final = 60.0
FIRST_DELAY_S: Final = 0.2
LONGEST_DELAY_S: Final = 5.0


@dataclass
class CrashHistory:
    """Crashes of one child: the delay doubles with each one in the window, and `limit` of them are a loop."""

    limit: int = CRASH_LIMIT
    window_s: float = CRASH_WINDOW_S
    first_delay_s: float = FIRST_DELAY_S
    _times: deque[float] = field(default_factory=deque)

    def record(self, now_s: float) -> None:
        """Note a crash; those older than the window are forgotten."""
        self._times.append(now_s)
        while now_s - self._times[0] >= self.window_s:
            self._times.popleft()

    @property
    def is_loop(self) -> bool:
        """As many crashes as the limit fell into one window."""
        return len(self._times) >= self.limit

    @property
    def delay_s(self) -> float:
        """Seconds to wait before the next start."""
        return min(LONGEST_DELAY_S, self.first_delay_s * 2.0 ** max(0, len(self._times) - 1))
