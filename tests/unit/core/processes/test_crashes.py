import pytest

from trainyard.core.processes import CrashHistory


@pytest.mark.parametrize(
    ("times_s", "is_loop"),
    [
        ([0, 1, 2, 3], False),
        ([0, 1, 2, 3, 4], True),
        ([0, 15, 30, 45, 59.9], True),
        ([0, 15, 30, 45, 60], False),  # the first is a full minute old
        ([0, 100, 101, 102, 103, 104], True),
    ],
)
def test_five_crashes_within_a_minute_are_a_loop(times_s: list[float], is_loop: bool) -> None:
    history = CrashHistory()
    for time_s in times_s:
        history.record(time_s)
    assert history.is_loop is is_loop


def test_the_delay_doubles_up_to_five_seconds_and_falls_back_after_a_quiet_minute() -> None:
    history = CrashHistory(limit=99)
    delays = []
    for second in range(7):
        history.record(second)
        delays.append(history.delay_s)
    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    history.record(100)
    assert history.delay_s == 0.2
