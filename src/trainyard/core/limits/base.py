"""The Limiter Protocol: one atomic step over requests, tokens, concurrency and quotas of all subjects of a request."""

from collections.abc import Sequence
from typing import Protocol

from trainyard.core.limits.types import Amount, Passed, Reservation, Subject


class Spent(Protocol):
    """Tells what a subject has consumed, from the ledger; asked once per subject and period."""

    async def __call__(self, subject: str, since: float, until: float) -> Amount:
        """Sum what was charged to a subject at or after `since` and before `until`, Unix seconds."""
        ...


class Limiter(Protocol):
    """Counts what runs and what ran; never lets more through than the bars allow, whatever the concurrency."""

    async def reserve(self, subjects: Sequence[Subject], amount: Amount) -> Reservation:
        """Take one request, one place among those that run, and the amount, of all subjects at once or of none.

        Raises:
            errors.LimitReached: Code `rate_limit_exceeded`; `data` has `scope` (subject), `dimension` (`requests`,
                `tokens` or `concurrency`), `limit`, `remaining`; `retry_after_s` is when the same call can succeed.
            errors.QuotaExhausted: Code `quota_exhausted`; `data` has `scope`, `dimension` (`tokens` or `cost`),
                `limit`, `used`, `reset_at`.
            errors.InvalidRequest: Code `request_exceeds_limit`: the amount alone is more than a bar of a window, so
                that waiting does not help.
            errors.Unavailable: Code `limiter_unavailable`: the counters cannot be reached, so nothing is let through.
        """
        ...

    async def settle(self, reservation: Reservation, used: Amount, *, at: float | None = None) -> None:
        """End the work: what was used counts from now for one window and for the period; the rest is free again.

        Call it after the ledger entry is durable: quotas are loaded from there. Counters that cannot be reached are
        told later; the work is done either way.

        `at` is the `at` of the ledger entry, Unix seconds: it decides to which period of a quota the work belongs; now
        when left out.
        """
        ...

    async def refund(self, reservation: Reservation) -> None:
        """End the work as if it had never begun; the request does not count either."""
        ...

    async def count(self, subjects: Sequence[Subject]) -> Passed:
        """Count one request whose answer is there already: it has to find a place free, and holds nothing.

        It passes the bars that a reservation of no amount passes, and costs one step in place of two.

        Raises:
            errors.TrainyardError: As `reserve`.
        """
        ...

    def count_at_once(self, subjects: Sequence[Subject]) -> Passed | None:
        """Do as `count` without waiting for anything; None, and nothing is counted, where it refuses or has to wait."""
        ...

    async def uncount(self, passed: Passed) -> None:
        """Take back a request that was counted, once, since nothing came of it; it leaves the window."""
        ...

    async def ping(self) -> None:
        """Return when the counters can be reached.

        Raises:
            errors.Unavailable: They cannot.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...
