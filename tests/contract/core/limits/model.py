"""The limiter as one would explain it: every question is answered from the list of all that ever happened."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trainyard.core.limits import periods
from trainyard.core.limits.types import Amount, Subject


@dataclass
class Work:
    """One request that was let in.

    Attributes:
        subjects: With the bars that it was let in by.
        used: None while it runs.
        ended_s: When it was settled.
        at: Time of its ledger entry.
        barred: Subjects that had a token bar when it was settled.
    """

    begun_s: float
    subjects: tuple[Subject, ...]
    amount: Amount
    used: Amount | None = None
    ended_s: float = 0.0
    at: float = 0.0
    is_refunded: bool = False
    barred: frozenset[str] = frozenset()

    @property
    def is_running(self) -> bool:
        return self.used is None and not self.is_refunded


@dataclass(frozen=True)
class Bar:
    """A bar that is in the way."""

    scope: str
    dimension: str
    limit: int
    used: int
    held: int
    asked: int


class Model:
    """Slow and obviously right."""

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self.works: list[Work] = []
        self.seen: dict[str, Subject] = {}

    def see(self, subjects: Sequence[Subject]) -> None:
        self.seen |= {subject.name: subject for subject in subjects}

    def settle(self, work: Work, used: Amount, now_s: float, at: float) -> None:
        work.used, work.ended_s, work.at = used, now_s, at
        work.barred = frozenset(each.name for each in work.subjects if self.seen[each.name].limits.tokens is not None)

    def in_the_way(self, subjects: Sequence[Subject], amount: Amount, now_s: float, wall_s: float) -> list[Bar]:
        """Every bar that the call would not pass at a moment, if nothing happened until then."""
        return [bar for subject in subjects for bar in self._bars(subject, amount, now_s, wall_s)]

    def never(self, subjects: Sequence[Subject], amount: Amount) -> bool:
        """Whether the call is more than a bar of a window by itself."""
        return any(
            subject.limits.requests == 0
            or subject.limits.concurrency == 0
            or (subject.limits.tokens is not None and amount.tokens > subject.limits.tokens)
            for subject in subjects
        )

    def _bars(self, subject: Subject, amount: Amount, now_s: float, wall_s: float) -> list[Bar]:
        name, limits, quota = subject.name, subject.limits, subject.quota
        ours = [work for work in self.works if any(each.name == name for each in work.subjects)]
        running = [work for work in ours if work.is_running]
        begun = [
            work
            for work in ours
            if not work.is_refunded
            and work.begun_s + self.window_s > now_s
            and any(each.name == name and each.limits.requests is not None for each in work.subjects)
        ]
        settled = [w for w in ours if w.used and w.ended_s + self.window_s > now_s and name in w.barred]
        period = periods.period_at(quota, wall_s)
        charged = [work.used for work in ours if work.used and period.since <= work.at < period.until]
        held = sum(work.amount.tokens for work in running)
        held_cost = sum(work.amount.cost_micros for work in running)
        asked, cost = amount.tokens, amount.cost_micros
        used = sum(work.used.tokens for work in settled if work.used)
        bars = [
            (limits.concurrency, Bar(name, "concurrency", limits.concurrency or 0, 0, len(running), 1)),
            (limits.requests, Bar(name, "requests", limits.requests or 0, len(begun), 0, 1)),
            (limits.tokens, Bar(name, "tokens", limits.tokens or 0, used, held, asked)),
            (quota.tokens, Bar(name, "quota", quota.tokens or 0, sum(c.tokens for c in charged), held, asked)),
            (
                quota.cost_micros,
                Bar(name, "cost", quota.cost_micros or 0, sum(c.cost_micros for c in charged), held_cost, cost),
            ),
        ]
        return [
            bar for limit, bar in bars if limit is not None and bar.asked and bar.used + bar.held + bar.asked > limit
        ]

    def reset_at(self, subject: Subject, wall_s: float) -> float:
        return periods.period_at(subject.quota, wall_s).until


def is_just_beyond(wait_s: float, least_s: float) -> bool:
    """Whether a wait is the least that helps, rounded up to whole milliseconds beyond it."""
    return least_s < wait_s <= least_s + 0.0021 and math.isfinite(wait_s)
