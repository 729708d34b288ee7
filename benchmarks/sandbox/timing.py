"""Latencies of asynchronous calls: one after the other, in bursts, and under saturation."""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Call = Callable[[], Awaitable[object]]


@dataclass
class Latencies:
    """What one kind of call took, in the order of the calls, milliseconds."""

    ms: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """Give the latency below which this share of the calls lies, nearest rank."""
        ordered = sorted(self.ms)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    @property
    def p50(self) -> float:
        """The median."""
        return statistics.median(self.ms)


async def timed(call: Call, into: Latencies) -> None:
    """Make one call and note what it took."""
    began_s = time.perf_counter()
    await call()
    into.ms.append((time.perf_counter() - began_s) * 1e3)


async def paced(call: Call, count: int, gap_s: float, into: Latencies) -> None:
    """Call one after the other with a pause between."""
    for _ in range(count):
        await timed(call, into)
        await asyncio.sleep(gap_s)


async def burst(call: Call, width: int, into: Latencies) -> None:
    """Make calls at the same moment and wait for all of them."""
    async with asyncio.TaskGroup() as calls:
        for _ in range(width):
            calls.create_task(timed(call, into))


async def saturated(call: Call, width: int, seconds: float) -> float:
    """Keep so many callers busy; gives finished calls per second."""
    ends_s = time.perf_counter() + seconds
    done = 0

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < ends_s:
            await call()
            done += 1

    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as callers:
        for _ in range(width):
            callers.create_task(caller())
    return done / (time.perf_counter() - began_s)
