"""The pool of pages under random operations: what a page holds stays, and the front has no gaps."""

import random

import pytest
import torch

from trainyard.core import errors
from trainyard.engine.config import ModelConfig
from trainyard.engine.pages import PAGE_TOKENS, Page, PagePool

CPU = torch.device("cpu")
CONFIG = ModelConfig(
    architecture="Tiny",
    vocab_size=8,
    hidden_size=4,
    intermediate_size=4,
    layers=2,
    heads=2,
    kv_heads=1,
    head_dim=2,
    max_positions=256,
)
PAGE_BYTES = 2 * 2 * 1 * PAGE_TOKENS * 2 * 4


class Marked:
    """A pool whose pages are filled with a number of their own."""

    def __init__(self, slots: int) -> None:
        self.pool = PagePool(CONFIG, torch.float32, CPU, slots * PAGE_BYTES)
        self.pool.data.fill_(float("nan"))  # what diverged weights leave behind
        self.marks: dict[Page, float] = {}
        self.front: set[Page] = set()
        self._made = 0

    def mark(self, page: Page, *, is_front: bool, value: float | None = None) -> Page:
        self._made += 1
        held = self.pool.data[:, :, page.slot]
        if value is None:
            assert (held == 0).all()
            value = float(self._made)
            held.fill_(value)
        self.marks[page] = value
        if is_front:
            self.front.add(page)
        return page

    def check(self) -> None:
        slots = [page.slot for page in self.marks]
        assert len(set(slots)) == len(slots) == self.pool.used == self.pool.slots - self.pool.free
        assert sorted(page.slot for page in self.front) == list(range(self.pool.front))
        for page, value in self.marks.items():
            assert (self.pool.data[:, :, page.slot] == value).all()
            assert self.pool.is_front(page) == (page in self.front)


@pytest.mark.parametrize("slots", [2, 3, 7])
@pytest.mark.parametrize("seed", range(3))
def test_pages_keep_what_they_hold_and_the_front_has_no_gaps(slots: int, seed: int) -> None:
    rng, marked = random.Random(seed), Marked(slots)
    pool = marked.pool
    done = set()
    for _ in range(400):
        back = [page for page in marked.marks if page not in marked.front]
        wish = rng.choice(("take", "take_front", "copy", "to_front", "leave_front", "drop"))
        if wish == "take" and pool.free:
            marked.mark(pool.take(), is_front=False)
        elif wish == "take_front" and pool.free:
            marked.mark(pool.take_front(), is_front=True)
        elif wish == "copy" and pool.free and marked.marks:
            page = rng.choice(list(marked.marks))
            marked.mark(pool.copy_to_front(page), is_front=True, value=marked.marks[page])
        elif wish == "to_front" and back:
            pool.to_front(page := rng.choice(back))
            marked.front.add(page)
        elif wish == "leave_front" and marked.front:
            page = rng.choice(sorted(marked.front, key=lambda one: one.slot))
            pool.leave_front(page)
            marked.front.discard(page)
        elif wish == "drop" and marked.marks:
            page = rng.choice(list(marked.marks))
            pool.drop(page)
            del marked.marks[page]
            marked.front.discard(page)
        else:
            continue
        done.add(wish)
        marked.check()
    assert len(done) == 6


def test_pages_behind_the_front_lie_as_far_from_it_as_they_can() -> None:
    marked = Marked(5)
    slots = [marked.pool.take().slot for _ in range(2)]
    assert slots == [4, 3]
    assert [marked.pool.take_front().slot for _ in range(2)] == [0, 1]


@pytest.mark.parametrize(("max_bytes", "slots"), [(2 * PAGE_BYTES, 2), (3 * PAGE_BYTES - 1, 2), (64 * PAGE_BYTES, 64)])
def test_memory_is_cut_into_whole_pages(max_bytes: int, slots: int) -> None:
    pool = PagePool(CONFIG, torch.float32, CPU, max_bytes)
    assert (pool.slots, pool.page_bytes, pool.data.nbytes) == (slots, PAGE_BYTES, slots * PAGE_BYTES)


def test_less_than_two_pages_are_refused() -> None:
    with pytest.raises(errors.ConfigError) as refused:
        PagePool(CONFIG, torch.float32, CPU, 2 * PAGE_BYTES - 1)
    assert refused.value.param == "engine.kv_max_bytes"
