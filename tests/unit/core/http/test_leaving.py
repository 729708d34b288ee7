import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope

from trainyard.core.http import leaving
from trainyard.core.http.leaving import while_connected


class Line:
    """A request over plain ASGI: the client leaves when it is told to."""

    def __init__(self) -> None:
        self.scope: Scope = {"type": "http"}
        self.asked = 0
        self._gone = asyncio.Event()

    @property
    def receive(self) -> Receive:
        return self._receive

    def leave(self) -> None:
        self._gone.set()

    async def _receive(self) -> Message:
        self.asked += 1
        await self._gone.wait()
        return {"type": "http.disconnect"}


class WiredLine(Line):
    """The same over a server that tells by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.scope[leaving.WIRE] = self
        self.leavers: list[Callable[[], object]] = []
        self.has_left = False

    def call_when_gone(self, leave: Callable[[], object]) -> None:
        if self.has_left:
            leave()
        else:
            self.leavers.append(leave)

    def forget(self, leave: Callable[[], object]) -> None:
        if leave in self.leavers:
            self.leavers.remove(leave)

    def leave(self) -> None:
        self.has_left = True
        leavers, self.leavers = self.leavers, []
        for one in leavers:
            one()


@pytest.fixture(params=[Line, WiredLine])
def line(request: pytest.FixtureRequest) -> Any:
    return request.param()


async def test_work_that_never_waits_is_not_watched(line: Line) -> None:
    async def at_once() -> int:
        return 3

    assert await while_connected(line, at_once()) == 3
    await asyncio.sleep(0)
    assert (line.asked, getattr(line, "leavers", [])) == (0, [])


async def test_work_that_waits_gives_its_result(line: Line) -> None:
    async def slowly() -> int:
        for _ in range(5):
            await asyncio.sleep(0)
        return await asyncio.to_thread(lambda: 4)

    assert await while_connected(line, slowly()) == 4
    assert getattr(line, "leavers", []) == []


async def test_the_work_runs_in_the_task_of_the_request(line: Line) -> None:
    async def mine() -> object:
        await asyncio.sleep(0)
        return asyncio.current_task()

    assert await while_connected(line, mine()) is asyncio.current_task()


@pytest.mark.parametrize("at_once", [True, False])
async def test_exceptions_of_the_work_come_out(line: Line, at_once: bool) -> None:
    async def fails() -> None:
        if not at_once:
            await asyncio.sleep(0)
        raise KeyError("x")

    with pytest.raises(KeyError):
        await while_connected(line, fails())


async def test_a_client_that_leaves_cancels_the_work_and_nothing_else(line: Line) -> None:
    seen: list[str] = []

    async def works() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0)  # cleaning up may wait
            seen.append("cancelled")
            raise

    async def request() -> str:
        try:
            await while_connected(line, works())
        except ClientDisconnect:
            await asyncio.sleep(0)  # the task goes on as if nothing had been
            task = asyncio.current_task()
            assert task is not None
            assert task.cancelling() == 0
            return "left"
        return "answered"

    running = asyncio.create_task(request())
    await asyncio.sleep(0.01)
    line.leave()
    assert await running == "left"
    assert seen == ["cancelled"]


async def test_a_client_that_left_before_the_work_waited_is_noticed_at_once(line: Line) -> None:
    line.leave()
    with pytest.raises(ClientDisconnect):
        await while_connected(line, asyncio.sleep(60))


async def test_work_that_ends_well_in_spite_of_it_is_kept(line: Line) -> None:
    async def stubborn() -> int:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return 5
        raise AssertionError

    async def request() -> tuple[int, int]:
        result = await while_connected(line, stubborn())
        task = asyncio.current_task()
        assert task is not None
        await asyncio.sleep(0)
        return result, task.cancelling()

    running = asyncio.create_task(request())
    await asyncio.sleep(0.01)
    line.leave()
    assert await running == (5, 0)


async def test_leaving_after_the_work_changes_nothing(line: Line) -> None:
    await while_connected(line, asyncio.sleep(0.001))
    line.leave()
    await asyncio.sleep(0.01)
    assert await while_connected(line, _one()) == 1


async def _one() -> int:
    return 1


async def test_a_cancellation_from_elsewhere_stays_one(line: Line) -> None:
    running = asyncio.create_task(while_connected(line, asyncio.sleep(60)))
    await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert running.cancelled()


async def test_a_cancellation_from_elsewhere_wins_over_leaving(line: Line) -> None:
    running = asyncio.create_task(while_connected(line, asyncio.sleep(60)))
    await asyncio.sleep(0.01)
    running.cancel()
    line.leave()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_deadline_around_it_is_a_deadline(line: Line) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await while_connected(line, asyncio.sleep(60))


async def test_a_deadline_inside_of_it_is_a_deadline(line: Line) -> None:
    async def bounded() -> str:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        except TimeoutError:
            await asyncio.sleep(0)
            return "late"
        return "done"

    assert await while_connected(line, bounded()) == "late"


async def test_it_can_be_used_again_and_inside_of_itself(line: Line) -> None:
    async def outer() -> int:
        await while_connected(line, asyncio.sleep(0))
        return await while_connected(line, _one())

    assert await while_connected(line, outer()) == 1
    running = asyncio.create_task(while_connected(line, while_connected(line, asyncio.sleep(60))))
    await asyncio.sleep(0.01)
    line.leave()
    with pytest.raises(ClientDisconnect):
        await running


async def test_work_that_is_given_up_is_closed(line: Line) -> None:
    seen: list[str] = []

    async def works() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            seen.append("closed")

    async def request() -> None:
        await while_connected(line, works())

    steps = request().__await__()
    next(steps)
    steps.close()
    assert seen == ["closed"]
