"""Who joins and who gives way, on a cache of a few pages and without a model."""

import pytest
import torch

from tests.unit.engine.test_pages import CONFIG, CPU, PAGE_BYTES
from trainyard.engine.kv_cache import Blocks, KvCache
from trainyard.engine.pages import PAGE_TOKENS
from trainyard.engine.prefixes import Chain
from trainyard.engine.schedule import Schedule
from trainyard.engine.stream import Stream
from trainyard.engine.types import Sampling
from trainyard.engine.waiting import Turnover

NOBODY: frozenset[str] = frozenset()


class Yard:
    def __init__(self, pages: int) -> None:
        self.cache = KvCache(CONFIG, torch.float32, CPU, pages * PAGE_BYTES)
        self.schedule = Schedule(self.cache, Turnover())

    def add(self, name: str, tokens: int, *, is_shared: bool = False) -> Stream:
        chain = Chain("x", 0) if is_shared else None
        sampling = Sampling(max_tokens=1000)
        stream = Stream(name, [1] * tokens, Blocks(chain), sampling, None, "base", 1000)
        self.schedule.add(stream)
        return stream

    def join(self, parked: frozenset[str] = NOBODY) -> list[str]:
        self.schedule.join(parked, 64)
        return [stream.stream_id for stream in self.schedule.live]

    def read(self, stream: Stream) -> None:
        """Compute the whole text and draw a token."""
        self.schedule.find(stream)
        self.cache.advance(stream.blocks, stream.text, stream.goal)
        if not stream.drawn:
            stream.take(1, 0.0, ())

    def say(self, stream: Stream, tokens: int) -> None:
        """Draw tokens as a row."""
        for _ in range(tokens):
            assert self.cache.reserve(stream.blocks, stream.blocks.tokens + 1)
            self.cache.advance(stream.blocks, stream.text, len(stream.text))
            stream.take(1, 0.0, ())

    def rows(self, parked: frozenset[str] = NOBODY) -> list[str]:
        return [row.stream_id for row in self.schedule.settle(parked)]


def test_streams_join_in_their_order_while_there_are_pages_for_them_and_one_more_for_each() -> None:
    yard = Yard(pages=6)
    for name, tokens in (("a", 40), ("b", 40), ("c", 40), ("d", 2)):
        yard.add(name, tokens)
    assert yard.join() == ["a", "b"]  # c: 2 pages and 2 to spare, of which 2 are free; d does not overtake it


def test_places_bound_who_joins_and_parked_streams_take_none() -> None:
    yard = Yard(pages=60)
    first = yard.add("a", 5)
    yard.join()
    yard.read(first)
    for name in "bc":
        yard.add(name, 5)
    yard.schedule.join(NOBODY, 1)
    assert len(yard.schedule.live) == 1
    yard.schedule.join(frozenset("a"), 1)
    assert [stream.stream_id for stream in yard.schedule.live] == ["a", "b"]


@pytest.mark.parametrize(("parked", "victim"), [("", "c"), ("a", "a"), ("ab", "b")])
def test_who_gives_way_is_the_youngest_parked_stream_or_the_youngest(parked: str, victim: str) -> None:
    yard = Yard(pages=6)
    streams = {}
    for name in "abc":
        streams[name] = yard.add(name, PAGE_TOKENS - 1)
        yard.join()
        yard.read(streams[name])
    assert yard.rows() == ["a", "b", "c"]
    grower = next(streams[name] for name in "cba" if name not in parked and name != victim)
    held = 6 - 3
    for _ in range(held):
        yard.say(grower, PAGE_TOKENS)
    assert yard.cache.available == 0
    yard.say(grower, len(grower.blocks.pages) * PAGE_TOKENS - grower.blocks.tokens)
    yard.rows(frozenset(parked))
    assert list(yard.schedule.waiting) == [victim]
    assert streams[victim].blocks.pages == []


def test_a_row_that_needs_copies_of_shared_pages_and_finds_none_gives_way() -> None:
    yard = Yard(pages=6)
    first = yard.add("a", 2 * PAGE_TOKENS + 1, is_shared=True)
    yard.join()
    yard.read(first)
    assert yard.rows() == ["a"]
    second = yard.add("b", 2 * PAGE_TOKENS + 2, is_shared=True)
    assert yard.join() == ["a"]  # one page, two copies and one to spare, of which 3 are free
    yard.schedule.remove(second)
    third = yard.add("c", 2 * PAGE_TOKENS + 2, is_shared=True)
    third.blocks.is_front = False
    yard.cache.find(third.blocks, third.text, third.findable)
    assert yard.cache.reserve(third.blocks, third.goal)
    del yard.schedule.waiting["c"]
    yard.schedule.live.append(third)
    yard.read(third)
    yard.say(first, 2 * PAGE_TOKENS)  # the pages that were left
    assert yard.rows() == ["a"]
    assert list(yard.schedule.waiting) == ["c"]
    assert yard.join() == ["a"]


def test_the_last_of_all_fits_alone() -> None:
    yard = Yard(pages=2)
    only = yard.add("a", PAGE_TOKENS)
    only.limit = PAGE_TOKENS
    assert yard.join() == ["a"]
    yard.read(only)
    yard.say(only, PAGE_TOKENS - 1)
    assert yard.rows() == ["a"]
    yard.schedule.remove(only)
    assert yard.cache.available == 2
