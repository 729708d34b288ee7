"""Work that several listen to: order, heartbeats, errors, the end of the time, and leaving."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

import pytest

from trainyard.core import errors
from trainyard.core.clock import SystemClock
from trainyard.serving import streams
from trainyard.serving.drawing import Plan
from trainyard.serving.streams import Broadcast, Listener
from trainyard.serving.types import Piece, pieces
from trainyard.serving.types.tally import Usage


@dataclass
class Source:
    """Implements `Prepared` over given texts, with a gate before each; it notes that it was closed."""

    texts: tuple[str, ...]
    fails: BaseException | None = None
    prompt_tokens: int = 3
    keeps_time: bool = False
    is_closed: bool = False
    read: int = 0
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    @property
    def max_tokens(self) -> int:
        return len(self.texts)

    @property
    def drawn(self) -> int:
        return self.read

    async def stream(self, choice: int, timeout_s: float) -> AsyncGenerator[Piece, None]:
        try:
            for at, text in enumerate(self.texts):
                await self.gate.wait()
                self.read += 1
                last = at == len(self.texts) - 1 and self.fails is None
                yield Piece(text=text, completion_tokens=at + 1, finish_reason="stop" if last else None)
            if self.fails is not None:
                raise self.fails
        finally:
            self.is_closed = True

    async def collect(self, choice: int, timeout_s: float) -> Piece:
        return pieces.join([piece async for piece in self.stream(choice, timeout_s)])


def plan(*sources: Source, time_s: float = 60.0) -> Plan:
    clock = SystemClock()
    return Plan(list(sources), 1, clock, clock.monotonic() + time_s)


def begin(*sources: Source, heartbeat_s: float = 60.0, time_s: float = 60.0) -> tuple[Broadcast, Listener]:
    planned = plan(*sources, time_s=time_s)
    broadcast = Broadcast(planned.tally())
    listener = broadcast.listen(heartbeat_s)
    broadcast.start(planned.send)
    return broadcast, listener


async def rest(listener: Listener) -> list[streams.Event]:
    seen: list[streams.Event] = []
    while (new := await listener.take()) is not None:
        seen += new
    return seen


def texts(seen: list[streams.Event], index: int) -> list[str]:
    return [piece.text for at, piece in seen if at == index]


async def test_everything_of_every_answer_arrives_in_its_order() -> None:
    broadcast, listener = begin(Source(("a", "b", "c")), Source(("x",)), Source(()))
    seen = await rest(listener)
    assert texts(seen, 0) == ["a", "b", "c"]
    assert texts(seen, 1) == ["x"]
    assert broadcast.tally.usage() == Usage(9, 4)
    listener.leave()


async def test_silence_is_filled_with_heartbeats() -> None:
    source = Source(("late",))
    source.gate.clear()
    _, listener = begin(source, heartbeat_s=0.01)
    assert [await listener.take() for _ in range(3)] == [(), (), ()]
    source.gate.set()
    while not (new := await listener.take()):
        assert new is not None
    assert new[0][1].text == "late"
    assert await listener.take() is None
    listener.leave()


async def test_one_failure_ends_and_closes_all() -> None:
    slow, failing = Source(("never",)), Source(("x",), fails=errors.Unavailable("away"))
    slow.gate.clear()
    broadcast, listener = begin(slow, failing)
    with pytest.raises(errors.Unavailable, match="away"):
        await rest(listener)
    assert slow.is_closed
    assert failing.is_closed
    assert broadcast.has_failed
    listener.leave()


async def test_each_listener_gets_an_error_of_his_own() -> None:
    broadcast, first = begin(Source(("x",), fails=errors.LimitReached("slow down", retry_after_s=3, param="p")))
    second = broadcast.listen()
    raised = []
    for listener in (first, second):
        with pytest.raises(errors.LimitReached) as caught:
            await listener.pieces()
        raised.append(caught.value)
    assert raised[0] is not raised[1]
    assert [(one.message, one.retry_after_s, one.param) for one in raised] == [("slow down", 3, "p")] * 2


@pytest.mark.parametrize("keeps_time", [False, True])
async def test_one_that_keeps_time_by_itself_is_not_bounded_again(keeps_time: bool) -> None:
    source = Source(("a",), keeps_time=keeps_time)
    source.gate.clear()
    asyncio.get_running_loop().call_later(0.1, source.gate.set)
    if keeps_time:
        assert [piece.text for piece in await plan(source, time_s=0.02).collect()] == ["a"]
        return
    with pytest.raises(errors.DeadlineExceeded):
        await plan(source, time_s=0.02).collect()


async def test_the_end_of_the_time_closes_all() -> None:
    source = Source(("never",))
    source.gate.clear()
    _, listener = begin(source, time_s=0.02)
    with pytest.raises(errors.DeadlineExceeded):
        await listener.take()
    assert source.is_closed


async def test_a_time_that_is_over_begins_nothing() -> None:
    source = Source(("x",))
    with pytest.raises(errors.DeadlineExceeded):
        await plan(source, time_s=-1.0).collect()
    assert source.read == 0


async def test_the_last_to_leave_ends_the_work() -> None:
    source = Source(("a", "b"))
    source.gate.clear()
    broadcast, first = begin(source)
    second = broadcast.listen()
    await asyncio.sleep(0)
    first.leave()
    await asyncio.sleep(0)
    assert not broadcast.is_over
    second.leave()
    await broadcast.ended()
    assert source.is_closed
    with pytest.raises(errors.Unavailable) as caught:
        broadcast.pieces()
    assert caught.value.code == "generation_cancelled"


async def test_leaving_before_the_work_has_begun_ends_it_too() -> None:
    source, ended = Source(("a",)), []
    planned = plan(source)
    broadcast = Broadcast(planned.tally())
    listener = broadcast.listen()

    async def then(done: Broadcast) -> None:
        ended.append(done.has_failed)

    broadcast.start(planned.send, then)
    listener.leave()
    await broadcast.ended()
    assert (source.read, ended) == (0, [True])


async def test_work_waits_for_those_who_read_slowly_but_not_for_the_slowest() -> None:
    source = Source(tuple("x" * (streams.MAX_AHEAD + 50)))
    broadcast, slow = begin(source)
    quick = broadcast.listen()
    for _ in range(20):
        await asyncio.sleep(0)
    assert source.read == streams.MAX_AHEAD
    assert len(await rest(quick)) == streams.MAX_AHEAD + 50
    assert len(await rest(slow)) == streams.MAX_AHEAD + 50
    slow.leave()
    quick.leave()


async def test_who_waits_for_the_whole_never_slows_it() -> None:
    _, listener = begin(Source(tuple("x" * (2 * streams.MAX_AHEAD))))
    (whole,) = await listener.pieces()
    assert whole.text == "x" * (2 * streams.MAX_AHEAD)
    assert (whole.completion_tokens, whole.finish_reason) == (2 * streams.MAX_AHEAD, "stop")
    listener.leave()


async def test_wholes_are_drawn_side_by_side_in_the_order_of_their_prompts() -> None:
    slow, quick = Source(("slow",)), Source(("quick",))
    slow.gate.clear()
    asyncio.get_running_loop().call_later(0.01, slow.gate.set)
    assert [piece.text for piece in await plan(slow, quick).collect()] == ["slow", "quick"]


async def test_an_unforeseen_error_is_an_error_for_listeners_and_stays_one_in_the_task() -> None:
    broadcast, listener = begin(Source(("x",), fails=ZeroDivisionError("bug")))
    with pytest.raises(errors.TrainyardError, match="unforeseen") as caught:
        await rest(listener)
    assert caught.value.code == "internal_error"
    assert broadcast._task is not None
    with pytest.raises(ZeroDivisionError):
        await broadcast._task
    listener.leave()
