"""When a refused stream is told to come again: by what was measured, one place per caller."""

import pytest

from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.engine import types
from trainyard.engine.fake_core import FakeCore
from trainyard.engine.waiting import Turnover


@pytest.mark.parametrize(
    ("starts", "wait", "first_end_s", "expected"),
    [
        ((), 0.0, 7.0, [7.0, 14.0]),  # nothing measured: the end of the first running stream, then one more
        ((0.0,), 0.0, 7.0, [7.0, 14.0]),  # one start is no interval
        ((0.0, 2.0, 2.0), 2.0, 7.0, [3.0, 6.0]),  # two intervals within (0 + 2 + 2 + 2) s
        ((0.0, 1.0), 60.5, 7.0, [7.0, 14.0]),  # starts of a minute ago say nothing
        ((), 0.0, 0.0, [0.05, 0.05]),
        ((), 0.0, 400.0, [400.0, 600.0]),
    ],
)
def test_the_wait_is_the_measured_interval_times_the_callers_before(
    starts: tuple[float, ...], wait: float, first_end_s: float, expected: list[float]
) -> None:
    clock = FakeClock()
    turnover = Turnover(clock.monotonic)
    for pause_s in starts:
        clock.advance(pause_s)
        turnover.started()
    clock.advance(wait)
    refused = [turnover.overloaded(5, first_end_s) for _ in expected]
    assert [error.retry_after_s for error in refused] == pytest.approx(expected)
    assert {error.code for error in refused} == {"engine_overloaded"}


def test_a_start_lets_the_next_caller_be_the_first_again() -> None:
    clock = FakeClock()
    turnover = Turnover(clock.monotonic)
    for _ in range(2):
        clock.advance(4.0)
        turnover.started()
    turnover.overloaded(1, 9.0)
    clock.advance(4.0)
    turnover.started()
    assert turnover.overloaded(1, 9.0).retry_after_s == pytest.approx(4.0)


def stream(name: str, max_tokens: int = 3) -> types.GenerateRequest:
    sampling = types.Sampling(max_tokens=max_tokens)
    return types.GenerateRequest(stream_id=name, prompt=types.int32([1]), sampling=sampling)


def test_a_fake_lets_so_many_draw_so_many_wait_and_refuses_the_next() -> None:
    core = FakeCore(max_streams=2, max_queue=1, token_s=0.001)
    for name in "abc":
        core.admit(stream(name))
    with pytest.raises(errors.Unavailable) as refused:
        core.admit(stream("d"))
    assert refused.value.code == "engine_overloaded"
    assert refused.value.retry_after_s is not None
    assert (core.stats().active_streams, core.stats().queued_streams) == (2, 1)
    drawn = [name for _ in range(6) for name, _ in core.tick()]
    assert drawn == ["a", "b"] * 3 + ["c"] * 3


def test_a_parked_stream_of_a_fake_holds_no_place() -> None:
    core = FakeCore(max_streams=1, max_queue=1)
    core.admit(stream("a"))
    core.tick()
    core.admit(stream("b"))
    assert [name for name, _ in core.tick(frozenset("a"))] == ["b"]


def test_a_waiting_stream_of_a_fake_can_be_cancelled() -> None:
    core = FakeCore(max_streams=1)
    core.admit(stream("a"))
    core.admit(stream("b"))
    assert core.cancel("b")
    assert not core.cancel("b")
    assert core.stats().queued_streams == 0
