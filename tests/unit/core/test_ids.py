import re
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from trainyard.core import ids
from trainyard.core.clock import FakeClock

MOMENTS = st.integers(min_value=0, max_value=4_000_000_000_000)


def test_an_id_is_its_prefix_and_26_characters() -> None:
    assert re.fullmatch(r"ses_[0-9a-hjkmnp-tv-z]{26}", ids.new_id("ses", FakeClock()))


def test_a_known_moment_gives_its_known_beginning() -> None:
    # 32**9 milliseconds are a one and nine zeros in base 32.
    assert ids.new_id("x", FakeClock(start=32**9 / 1000)).startswith("x_1000000000")


@given(MOMENTS, MOMENTS)
def test_ids_sort_as_the_milliseconds_in_which_they_were_made(first_ms: int, second_ms: int) -> None:
    first, second = (ids.new_id("ses", FakeClock(start=ms / 1000)) for ms in (first_ms, second_ms))
    if int(first_ms / 1000 * 1000) < int(second_ms / 1000 * 1000):
        assert first < second


def test_ids_of_one_moment_differ() -> None:
    clock = FakeClock()
    assert len({ids.new_id("ses", clock) for _ in range(1000)}) == 1000


def test_a_run_id_has_the_form_of_the_guide() -> None:
    assert re.fullmatch(r"run_[0-9a-f]{16}", ids.new_run_id())


def test_hex_ids_of_many_threads_differ() -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: ids.hex_id("req_"), range(5000)))
    assert len(set(made)) == 5000
    assert all(re.fullmatch(r"req_[0-9a-f]{24}", one) for one in made)
