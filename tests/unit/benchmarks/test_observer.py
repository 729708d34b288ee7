import pytest

from benchmarks import observer
from benchmarks.observer import Mark


@pytest.mark.parametrize(
    ("marks", "most"),
    [
        pytest.param([], 0, id="nothing"),
        pytest.param([Mark(0, 0), Mark(9.9, 9.9)], 2, id="within one window"),
        pytest.param([Mark(0, 0), Mark(10, 10)], 1, id="exactly one window apart"),
        pytest.param([Mark(5, 5, 3), Mark(14, 14, 4), Mark(16, 16, 5)], 9, id="over the edge of a fixed window"),
        pytest.param([Mark(0, 1), Mark(9, 10.5)], 1, id="perhaps not in one window"),
        pytest.param([Mark(0, 1), Mark(9, 9.5), Mark(9.6, 9.9)], 3, id="certainly in one window"),
    ],
)
def test_the_most_in_a_window_of_10_s(marks: list[Mark], most: int) -> None:
    assert observer.most_in_a_window(marks, 10) == most


def test_what_is_less_certain_than_a_window_is_long_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than a window"):
        observer.most_in_a_window([Mark(0, 10)], 10)


@pytest.mark.parametrize(
    ("spans", "most"),
    [([], 0), ([(0, 1), (1, 2)], 1), ([(0, 3), (1, 2), (1.5, 4), (3.5, 5)], 3)],
)
def test_the_most_at_once(spans: list[tuple[float, float]], most: int) -> None:
    assert observer.most_at_once(spans) == most
