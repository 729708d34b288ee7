"""What the mock remembers of its callers."""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

KEPT = 256
"""Requests that are kept whole, the newest ones."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as it came.

    Attributes:
        headers: Names in lower case.
    """

    path: str
    headers: Mapping[bytes, bytes]
    body: bytes


@dataclass(slots=True)
class Seen:
    """Counters and the newest requests; control requests are not among them.

    Attributes:
        requests: By path.
        models: By model name as it was sent.
        faults: By fault.
        in_flight: Requests that are being answered.
        peak: Most that ever were at once.
        aborted: Answers whose client went away before their end.
        recent: The newest requests, oldest first.
    """

    requests: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    peak: int = 0
    aborted: int = 0
    recent: deque[Recorded] = field(default_factory=lambda: deque(maxlen=KEPT))

    @property
    def total(self) -> int:
        """Requests of all paths."""
        return self.requests.total()

    def begin(self) -> None:
        """Count an answer that begins."""
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)

    def reset(self) -> None:
        """Forget everything but what runs."""
        for counter in (self.requests, self.models, self.faults):
            counter.clear()
        self.peak, self.aborted = self.in_flight, 0
        self.recent.clear()

    def report(self) -> dict[str, object]:
        """Show the counters as plain data."""
        return {
            "total": self.total,
            "requests": dict(self.requests),
            "models": dict(self.models),
            "faults": dict(self.faults),
            "in_flight": self.in_flight,
            "peak": self.peak,
            "aborted": self.aborted,
        }
