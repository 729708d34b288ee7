"""Retries are a share of the traffic, and wait as long as they are told to."""

import pytest

from trainyard.core.clock import FakeClock
from trainyard.serving.backends.remote import retries
from trainyard.serving.backends.remote.retries import RetryBudget


def test_a_budget_allows_its_burst_and_then_its_share() -> None:
    budget = RetryBudget(share=0.25, burst=3)
    assert [budget.spend() for _ in range(4)] == [True, True, True, False]
    granted = 0
    for _ in range(100):
        budget.earn()
        granted += budget.spend()
    assert granted == 25


def test_a_budget_does_not_grow_beyond_its_burst() -> None:
    budget = RetryBudget(share=1, burst=2)
    for _ in range(50):
        budget.earn()
    assert [budget.spend() for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize(("attempt", "least", "most"), [(1, 0.05, 0.1), (2, 0.1, 0.2), (3, 0.2, 0.4), (20, 2.5, 5.0)])
def test_pauses_double_and_are_spread(attempt: int, least: float, most: float) -> None:
    drawn = [retries.pause_s(attempt, None) for _ in range(200)]
    assert least <= min(drawn) < max(drawn) <= most


def test_a_pause_is_never_shorter_than_the_server_asked_for() -> None:
    assert retries.pause_s(1, 3.0) == 3.0
    assert retries.pause_s(1, 60.0) == 60.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("soon", None),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:13:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None, clock: FakeClock) -> None:
    assert retries.retry_after_s(header, clock) == seconds
