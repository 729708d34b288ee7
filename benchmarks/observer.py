"""What a limiter let through, told from the outside: from moments that its callers wrote down, not from its counters.

A caller knows a moment only as lying between two readings of its clock, before it asked and after it was answered. So
everything here counts what is certain: a bar that seems to hold may still be broken within those readings, one that
seems broken is.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class Mark:
    """Something that happened between two moments, and how much of it; seconds of one clock."""

    earliest_s: float
    latest_s: float
    amount: int = 1


def most_in_a_window(marks: Sequence[Mark], window_s: float) -> int:
    """The largest sum of marks that certainly lie in one stretch of `window_s`.

    Raises:
        ValueError: A mark is less certain than a window is long.
    """
    if any(mark.latest_s - mark.earliest_s >= window_s for mark in marks):
        raise ValueError("a caller waited for longer than a window for its answer")
    by_earliest = sorted(marks, key=lambda mark: mark.earliest_s)
    by_latest = sorted(marks, key=lambda mark: mark.latest_s)
    earliest_s = [mark.earliest_s for mark in by_earliest]
    latest_s = [mark.latest_s for mark in by_latest]
    begun = [0, *accumulate(mark.amount for mark in by_earliest)]
    ended = [0, *accumulate(mark.amount for mark in by_latest)]
    # All that ended before the end of the window, less what had begun before its start: that ended before its end too.
    return max(
        (
            ended[bisect_left(latest_s, start + window_s)] - begun[bisect_left(earliest_s, start)]
            for start in earliest_s
        ),
        default=0,
    )


def most_at_once(spans: Sequence[tuple[float, float]]) -> int:
    """The largest number of spans, each from its begin to its end, that overlap at one moment."""
    edges = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    return max(accumulate(step for _, step in edges), default=0)
