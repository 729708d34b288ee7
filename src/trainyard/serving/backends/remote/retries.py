"""How often and when a failed attempt is repeated."""

import email.utils
import random

from trainyard.core.clock import Clock

SHARE = 0.2
"""Retries per request over time: an upstream that is down gets a fifth more traffic, not three times as much."""

BURST = 10.0
FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 5.0
"""Nobody is kept waiting longer for another attempt; a `Retry-After` beyond it is passed on to the caller."""


class RetryBudget:
    """A bucket that every request fills a little and every retry empties by one."""

    def __init__(self, share: float = SHARE, burst: float = BURST) -> None:
        self._share = share
        self._burst = burst
        self._tokens = burst

    def earn(self) -> None:
        """Count a request."""
        self._tokens = min(self._burst, self._tokens + self._share)

    def spend(self) -> bool:
        """Take a retry out; false when there is none."""
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def pause_s(attempt: int, retry_after_s: float | None) -> float:
    """Say how long to wait before attempt `attempt` (1 = the first repetition).

    Args:
        attempt: Doubles the longest pause each time; the pause is drawn between half of it and all of it.
        retry_after_s: What the server asked for; never undercut.
    """
    longest = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (attempt - 1))
    drawn = longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing
    return max(drawn, retry_after_s or 0.0)


def retry_after_s(header: str | None, clock: Clock) -> float | None:
    """Read `Retry-After`, seconds or a date; None when it is absent or says nothing."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - clock.now())
    except ValueError:
        return None
