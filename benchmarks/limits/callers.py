"""One process of callers: `python -m benchmarks.limits.callers DATABASE_URL REDIS_URL|- PAUSE_S`.

Reads a line of JSON per scenario, `{"scenario", "tenant", "seed", "start_s"}`, and answers with a line of JSON: what
every request that was let in did, and when, by the monotonic clock that all processes of a machine share.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from benchmarks.limits import scenarios
from benchmarks.limits.scenarios import Scenario
from trainyard.core import errors, ids, redis
from trainyard.core.clock import SystemClock
from trainyard.core.db import Database
from trainyard.core.db.writer import GroupWriter
from trainyard.core.ledger.service import Ledger
from trainyard.core.ledger.types import Entry
from trainyard.core.limits import Amount, Limiter, MemoryLimiter, RedisLimiter, Subject

_CALM_S = 1.5
"""Before the end nothing long begins and nothing fails, so that what is free at the end was not wanted."""

Record = tuple[float, float, float, float, int]
"""Asked, let in, work ended, told; tokens, or -1 for a refund."""


@dataclass
class Run:
    """One scenario in this process."""

    scenario: Scenario
    tenant: str
    random: random.Random
    until_s: float
    records: list[Record] = field(default_factory=list)

    @property
    def subject(self) -> Subject:
        """Who is limited."""
        return self.scenario.subject(self.tenant)


@dataclass(frozen=True)
class Process:
    """What all callers of this process share."""

    limiter: Limiter
    ledger: Ledger
    clock: SystemClock
    pause_s: float

    async def call(self, run: Run) -> None:
        """Ask until the end; wait as told, but not for long."""
        subject = run.subject
        while (asked_s := time.monotonic()) < run.until_s:
            reserved = run.random.randint(1, scenarios.LARGEST)
            try:
                reservation = await self.limiter.reserve((subject,), Amount(reserved))
            except (errors.LimitReached, errors.QuotaExhausted) as error:
                await asyncio.sleep(min(error.retry_after_s or self.pause_s, self.pause_s * run.random.uniform(0.5, 1)))
                continue
            begun_s = time.monotonic()
            is_calm = run.until_s - begun_s < _CALM_S
            is_stream, fails = run.random.random() < 0.3 and not is_calm, run.random.random() < 0.1 and not is_calm
            await asyncio.sleep(run.random.uniform(0.2, 0.6) if is_stream else run.random.uniform(0.01, 0.05))
            ended_s = time.monotonic()
            if fails:
                await self.limiter.refund(reservation)
                run.records.append((asked_s, begun_s, ended_s, time.monotonic(), -1))
                continue
            used = run.random.randint(1, reserved) if is_stream else reserved
            at = await self.charge(run.tenant, used)
            await self.limiter.settle(reservation, Amount(used), at=at)
            run.records.append((asked_s, begun_s, ended_s, time.monotonic(), used))

    async def charge(self, tenant: str, tokens: int) -> float:
        """Write a ledger entry; returns its time once it is durable."""
        at = self.clock.now()
        entry_id = ids.new_id("use", self.clock)
        entry = Entry(
            entry_id=entry_id,
            at=at,
            tenant=tenant,
            user="callers",
            key_id="key_benchmark",
            request_id=entry_id,
            route="/v1/generate",
            model="none",
            outcome="done",
            cached=False,
            prompt_tokens=tokens,
            cached_tokens=0,
            completion_tokens=0,
            charged_tokens=tokens,
            cost_micros=0,
            seconds=0.0,
        )
        await self.ledger.record(entry)
        return at


@asynccontextmanager
async def opened(database_url: str, redis_url: str, pause_s: float) -> AsyncIterator[Process]:
    """Open ledger and limiter as a server does."""
    database, writer, clock = Database(database_url), GroupWriter(database_url), SystemClock()
    ledger = Ledger(writer, database)
    await writer.start()
    limiter: Limiter
    if redis_url == "-":
        limiter = MemoryLimiter(ledger.spent, clock, window_s=scenarios.WINDOW_S)
    else:
        limiter = RedisLimiter(redis.connect(redis_url), ledger.spent, clock, window_s=scenarios.WINDOW_S)
    yield Process(limiter, ledger, clock, pause_s)
    await limiter.aclose()
    await writer.aclose()
    database.close()


async def main(database_url: str, redis_url: str, pause_s: float) -> None:
    """Run what is asked for until the input ends."""
    async with opened(database_url, redis_url, pause_s) as process:
        print("ready", flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            scenario = scenarios.ALL[asked["scenario"]]
            until_s = asked["start_s"] + scenario.seconds
            run = Run(scenario, asked["tenant"], random.Random(asked["seed"]), until_s)
            await asyncio.sleep(max(0.0, asked["start_s"] - time.monotonic()))
            await asyncio.gather(*[process.call(run) for _ in range(scenarios.CALLERS)])
            print(json.dumps(run.records), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
