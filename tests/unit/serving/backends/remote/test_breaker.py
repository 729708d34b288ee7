"""A circuit opens after failures in a row and closes by one probe."""

import pytest

from trainyard.core.clock import FakeClock
from trainyard.serving.backends.remote.breaker import Breaker, Pass, State


def opened(clock: FakeClock) -> Breaker:
    breaker = Breaker(clock, failures=3, first_pause_s=5, longest_pause_s=15)
    for _ in range(3):
        breaker.failed(breaker.enter())
    return breaker


def test_it_opens_after_failures_in_a_row_only(clock: FakeClock) -> None:
    breaker = Breaker(clock, failures=3)
    for outcome in (breaker.failed, breaker.failed, breaker.succeeded, breaker.failed, breaker.failed):
        outcome(breaker.enter())
    seen = [breaker.state]
    for outcome in (breaker.abandoned, breaker.failed):
        outcome(breaker.enter())
        seen.append(breaker.state)
    assert seen == [State.CLOSED, State.CLOSED, State.OPEN]


def test_nobody_passes_while_it_is_open(clock: FakeClock) -> None:
    breaker = opened(clock)
    clock.advance(4.5)
    assert (breaker.enter(), breaker.wait_s) == (Pass.REFUSED, 0.5)


def test_exactly_one_probe_passes_at_a_time(clock: FakeClock) -> None:
    breaker = opened(clock)
    clock.advance(5)
    assert breaker.state is State.HALF_OPEN
    passes = [breaker.enter() for _ in range(100)]
    assert passes.count(Pass.PROBE) == 1
    assert passes.count(Pass.REFUSED) == 99
    breaker.abandoned(Pass.PROBE)
    assert [breaker.enter() for _ in range(2)] == [Pass.PROBE, Pass.REFUSED]


def test_a_good_probe_closes_it(clock: FakeClock) -> None:
    breaker = opened(clock)
    clock.advance(5)
    breaker.succeeded(breaker.enter())
    assert (breaker.state, breaker.enter()) == (State.CLOSED, Pass.NORMAL)


def test_each_bad_probe_doubles_the_pause_up_to_the_longest(clock: FakeClock) -> None:
    breaker = opened(clock)
    for pause_s in (5, 10, 15, 15):
        assert breaker.wait_s == pause_s
        clock.advance(pause_s)
        breaker.failed(breaker.enter())
    clock.advance(15)
    breaker.succeeded(breaker.enter())
    for _ in range(3):
        breaker.failed(breaker.enter())
    assert breaker.wait_s == 5


@pytest.mark.parametrize("report", ["succeeded", "failed", "abandoned"])
def test_what_was_sent_before_it_opened_decides_nothing(clock: FakeClock, report: str) -> None:
    breaker = opened(clock)
    clock.advance(5)
    probe = breaker.enter()
    getattr(breaker, report)(Pass.NORMAL)
    assert probe is Pass.PROBE
    assert (breaker.state, breaker.enter()) == (State.HALF_OPEN, Pass.REFUSED)
