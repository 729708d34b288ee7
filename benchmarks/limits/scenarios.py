"""What is tried: one subject with its bars, and how its callers behave."""

from dataclasses import dataclass

from trainyard.core.limits import Limits, Quota, Subject

WINDOW_S = 5.0
CALLERS = 200
LARGEST = 400
"""Tokens of the largest request."""
CHARGED_BEFORE = 50_000
"""What the ledger has of a subject with a quota before its first request."""


@dataclass(frozen=True)
class Scenario:
    """One subject.

    Attributes:
        seconds: How long callers ask; less than a window where what was used of it is measured.
    """

    name: str
    limits: Limits
    seconds: float = WINDOW_S - 1.0
    quota: Quota | None = None

    def subject(self, tenant: str) -> Subject:
        """Build the subject under a name of its own."""
        return Subject(f"tenant:{tenant}", self.limits, self.quota or Quota())


REQUESTS = Scenario("requests", Limits(requests=1000))
TOKENS = Scenario("tokens", Limits(tokens=200_000))
CONCURRENCY = Scenario("concurrency", Limits(concurrency=50))
QUOTA = Scenario("quota", Limits(), quota=Quota(tokens=CHARGED_BEFORE + 200_000))
SLIDING = Scenario("sliding", Limits(requests=1000, tokens=120_000, concurrency=150), seconds=2.4 * WINDOW_S)

MEASURED = (REQUESTS, TOKENS, CONCURRENCY)
"""In every round."""
WATCHED = (QUOTA, SLIDING)
"""Once: the month's quota over a base from the ledger, and all bars together over several windows."""
ALL = {each.name: each for each in (*MEASURED, *WATCHED)}
