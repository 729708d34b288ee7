"""Which streams wait, are read and decode, and who gives way when memory runs short.

A stream joins when there are pages for its text and one more for every stream that is there. When a row finds no page
for its next token, a parked stream or else the youngest one gives its pages back and waits at the head. What
it has said is read again like a prompt, so its next tokens are those that it would have said anyway. The oldest is not
asked, and one stream alone always fits, so somebody always goes on (docs/decisions/021).
"""

from collections import OrderedDict
from collections.abc import Set as AbstractSet

from trainyard.engine.kv_cache import KvCache, pages_for
from trainyard.engine.pages import PAGE_TOKENS
from trainyard.engine.prefill import Stretch
from trainyard.engine.stream import Stream
from trainyard.engine.waiting import Turnover


class Schedule:
    """Streams by what they do now.

    Attributes:
        live: Streams that hold pages, oldest first.
        rows: Those of them that decode; their pages lie at the front.
    """

    def __init__(self, cache: KvCache, turnover: Turnover) -> None:
        self._cache, self._turnover = cache, turnover
        self.waiting: OrderedDict[str, Stream] = OrderedDict()
        self.live: list[Stream] = []
        self.rows: list[Stream] = []
        self._admitted = 0

    def add(self, stream: Stream) -> None:
        """Let a stream wait for its place."""
        self._admitted += 1
        stream.number = self._admitted
        self.waiting[stream.stream_id] = stream

    def remove(self, stream: Stream) -> None:
        """Forget a stream; its pages are free, or kept for others."""
        self.waiting.pop(stream.stream_id, None)
        if stream in self.live:
            self._take_away(stream)

    def settle(self, parked: AbstractSet[str]) -> list[Stream]:
        """Give the rows of this tick, each with room for one token more."""
        for stream in [row for row in self.rows if row.stream_id in parked]:
            self._cache.leave(stream.blocks)
            self.rows.remove(stream)
        for stream in list(self.live):
            if stream.is_read and not stream.blocks.is_front and stream.stream_id not in parked:
                self._enter(stream, parked)
        for stream in sorted(self.rows, key=lambda row: row.number):
            while stream.blocks.is_front and not self._cache.reserve(stream.blocks, stream.blocks.tokens + 1):
                self._give_way(parked)
        return self.rows

    def join(self, parked: AbstractSet[str], max_streams: int) -> None:
        """Take waiting streams in, in their order, while there are places and pages.

        Args:
            parked: Ids of streams that are not to go on.
            max_streams: Streams that are read or decode at once; those that are parked do not count.
        """
        places = max_streams - sum(stream.stream_id not in parked for stream in self.live)
        for stream in list(self.waiting.values()):
            if places <= 0:
                break
            if stream.stream_id in parked:
                continue
            if not self._has_joined(stream, parked):
                break
            places -= 1

    def plan(self, parked: AbstractSet[str], budget: int) -> list[Stretch]:
        """Choose what is read now, in order of age, at most `budget` tokens.

        What an older stream reads in the same pass is not read twice: who begins alike waits for the next tick.
        """
        out: list[Stretch] = []
        claimed: set[bytes] = set()
        for stream in self.live:
            if stream.is_read or stream.stream_id in parked:
                continue
            self.find(stream)
            start, stop = stream.blocks.tokens, min(stream.goal, stream.blocks.tokens + budget)
            if stop < stream.goal:
                stop -= stop % PAGE_TOKENS
            names = _names(stream, start, stop)
            if stop <= start or (names and names[0] in claimed):
                continue
            claimed.update(names)
            out.append(Stretch(stream, start, stop))
            budget -= stop - start
        return out

    def find(self, stream: Stream) -> None:
        """Take over pages that others computed."""
        found = self._cache.find(stream.blocks, stream.text, stream.findable)
        if not stream.drawn:
            stream.found += found

    # -------------------------------------------------------------------- room
    def _has_joined(self, stream: Stream, parked: AbstractSet[str]) -> bool:
        self.find(stream)
        wanted = pages_for(min(stream.goal + 1, stream.longest))
        while self._missing(stream, wanted) > self._cache.available:
            if not any(other.stream_id in parked for other in self.live):
                self._cache.free(stream.blocks)
                stream.forget_progress()
                return False
            self._give_way(parked)
        if not self._cache.reserve(stream.blocks, stream.goal):
            raise AssertionError("the pages that were counted are there")
        del self.waiting[stream.stream_id]
        self.live.append(stream)
        self.live.sort(key=lambda one: one.number)
        self._turnover.started()
        return True

    def _missing(self, stream: Stream, wanted: int) -> int:
        """Count the pages that have to be free: own ones, copies of shared ones at the front, one for each stream."""
        shared = sum(
            page.holders > 1 for one in (stream, *self.live) if not one.blocks.is_front for page in one.blocks.pages
        )
        return wanted - len(stream.blocks.pages) + shared + len(self.live)

    def _enter(self, stream: Stream, parked: AbstractSet[str]) -> None:
        while not self._cache.enter(stream.blocks):
            self._give_way(parked)
            if not stream.blocks.pages:
                return
        self.rows.append(stream)

    def _give_way(self, parked: AbstractSet[str]) -> None:
        """Take the pages of the youngest parked stream, or of the youngest."""
        victim = max(self.live, key=lambda one: (one.stream_id in parked, one.number))
        self._take_away(victim)
        self.waiting[victim.stream_id] = victim
        self.waiting.move_to_end(victim.stream_id, last=False)

    def _take_away(self, stream: Stream) -> None:
        if stream.blocks.is_front:
            self.rows.remove(stream)
        self.live.remove(stream)
        self._cache.free(stream.blocks)
        stream.forget_progress()


def _names(stream: Stream, start: int, stop: int) -> list[bytes]:
    """Name the full pages of a stretch."""
    chain = stream.blocks.chain
    if chain is None or not stream.findable:
        return []
    return [chain.name(place, stream.text) for place in range(start // PAGE_TOKENS, stop // PAGE_TOKENS)]
