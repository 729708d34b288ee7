import time

import pytest

from trainyard.core.clock import FakeClock, SystemClock


def test_the_fake_clock_moves_only_when_told() -> None:
    clock = FakeClock(start=100.0)
    assert (clock.now(), clock.monotonic()) == (100.0, 0.0)
    clock.advance(2.5)
    assert (clock.now(), clock.monotonic()) == (102.5, 2.5)


def test_the_fake_clock_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="back"):
        FakeClock().advance(-1)


def test_the_system_clock_is_that_of_the_machine() -> None:
    before = time.time()
    assert before <= SystemClock().now() <= time.time()
    assert SystemClock().monotonic() <= SystemClock().monotonic()
