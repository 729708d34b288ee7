import pytest

from trainyard.core import errors
from trainyard.engine import schedules
from trainyard.engine.types import SchedulerName


@pytest.mark.parametrize(
    ("name", "step", "warmup", "total", "expected"),
    [
        (None, 0, 0, None, 1.0),
        (None, 2, 4, None, 0.5),
        ("constant_with_warmup", 0, 4, None, 0.0),
        ("constant_with_warmup", 3, 4, None, 0.75),
        ("constant_with_warmup", 400, 4, None, 1.0),
        ("linear", 4, 4, 14, 1.0),
        ("linear", 9, 4, 14, 0.5),
        ("linear", 14, 4, 14, 0.0),
        ("linear", 99, 4, 14, 0.0),
        ("cosine", 0, 0, 8, 1.0),
        ("cosine", 2, 0, 8, 0.8535533905932737),  # (1 + cos 45 deg) / 2
        ("cosine", 4, 0, 8, 0.5),
        ("cosine", 8, 0, 8, 0.0),
    ],
)
def test_share_of_the_base_rate(
    name: SchedulerName | None, step: int, warmup: int, total: int | None, expected: float
) -> None:
    assert schedules.factor(name, step, warmup, total) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("name", "total", "warmup"), [("cosine", None, 0), ("linear", None, 0), ("linear", 3, 4)])
def test_schedules_that_cannot_be_computed_are_refused(name: SchedulerName, total: int | None, warmup: int) -> None:
    with pytest.raises(errors.InvalidRequest, match="lr_total_steps"):
        schedules.check(name, total, warmup)
