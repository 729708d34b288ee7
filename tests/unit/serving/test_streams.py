"""Several streams as one: order, heartbeats, errors, the end of the time, and closing."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from trainyard.core import errors
from trainyard.core.clock import SystemClock
from trainyard.serving import streams
from trainyard.serving.types import Piece


def piece(text: str) -> Piece:
    return Piece(text=text, completion_tokens=1)


class Source:
    """A stream of texts, with a gate before each; it notes that it was closed."""

    def __init__(self, *texts: str, fails: bool = False) -> None:
        self.texts, self.fails, self.is_closed = texts, fails, False
        self.gate = asyncio.Event()
        self.gate.set()

    async def stream(self) -> AsyncGenerator[Piece, None]:
        try:
            for text in self.texts:
                await self.gate.wait()
                yield piece(text)
            if self.fails:
                raise errors.Unavailable("away")
        finally:
            self.is_closed = True


def merged(*sources: Source, heartbeat_s: float = 60.0, time_s: float = 60.0) -> AsyncGenerator[streams.Event | None]:
    clock = SystemClock()
    ends_at_s = clock.monotonic() + time_s
    return streams.merge(
        [source.stream() for source in sources], clock=clock, ends_at_s=ends_at_s, heartbeat_s=heartbeat_s
    )


async def test_everything_of_every_stream_arrives_in_its_order() -> None:
    seen = [event async for event in merged(Source("a", "b", "c"), Source("x"), Source())]
    assert [event[1].text for event in seen if event and event[0] == 0] == ["a", "b", "c"]
    assert [event[1].text for event in seen if event and event[0] == 1] == ["x"]


async def test_silence_is_filled_with_heartbeats() -> None:
    source = Source("late")
    source.gate.clear()
    events = merged(source, heartbeat_s=0.01)
    assert [await anext(events) for _ in range(3)] == [None, None, None]
    source.gate.set()
    while (event := await anext(events)) is None:
        pass
    assert event[1].text == "late"
    assert [one async for one in events if one] == []


async def test_one_failure_ends_and_closes_all() -> None:
    slow, failing = Source("never"), Source("x", fails=True)
    slow.gate.clear()
    with pytest.raises(errors.Unavailable):
        [event async for event in merged(slow, failing)]
    assert slow.is_closed
    assert failing.is_closed


async def test_the_end_of_the_time_closes_all() -> None:
    source = Source("never")
    source.gate.clear()
    with pytest.raises(errors.DeadlineExceeded):
        [event async for event in merged(source, time_s=0.02)]
    assert source.is_closed


async def test_closing_closes_what_is_read_and_what_waits() -> None:
    fast, slow = Source("a", "b"), Source("never")
    slow.gate.clear()
    events = merged(fast, slow)
    assert (await anext(events)) == (0, piece("a"))
    await events.aclose()
    assert fast.is_closed
    assert slow.is_closed
