"""Attempts at several addresses: who is late keeps nobody waiting and leaves nothing open."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from trainyard.core import wire
from trainyard.core.wire.racing import first_of


class _Addresses:
    """`fast` stands at once, `deaf` never, `stubborn` stands although it was told to stop."""

    def __init__(self) -> None:
        self.closed: list[str] = []
        self.stopped = asyncio.Event()
        self.tried = asyncio.Event()

    async def connect(self, address: str) -> wire.Connection:
        self.tried.set()
        if address != "fast":
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                self.stopped.set()
                if address == "deaf":
                    raise
                await asyncio.sleep(0.01)
        return wire.Connection(asyncio.get_running_loop(), lambda _: self.closed.append(address))


async def _until(done: Callable[[], bool]) -> None:
    for _ in range(500):
        if done():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came so far")


async def test_what_stands_too_late_is_closed_and_not_waited_for() -> None:
    addresses = _Addresses()
    connection = await first_of(["stubborn", "fast"], addresses.connect)
    assert addresses.closed == []
    await _until(lambda: addresses.closed == ["stubborn"])
    connection.close()
    assert addresses.closed == ["stubborn", "fast"]


@pytest.mark.parametrize("address", ["deaf", "stubborn"])
async def test_who_leaves_leaves_no_attempt_behind(address: str) -> None:
    addresses = _Addresses()
    made: Coroutine[Any, Any, wire.Connection] = first_of([address, address], addresses.connect)
    task = asyncio.create_task(made)
    await addresses.tried.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await addresses.stopped.wait()
    await _until(lambda: len(asyncio.all_tasks()) == 1)
    await asyncio.sleep(0)  # who ends is looked at in the turn after
    assert addresses.closed == ([] if address == "deaf" else ["stubborn"])
