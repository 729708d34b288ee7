"""A process of callers over one Redis; `python -m tests.contract.core.limits.callers URL SECONDS MODE`.

Prints one line of JSON per request that was let in: what it used and the moments of its begin and end.
"""

import asyncio
import json
import random
import sys
import time

from trainyard.core import errors
from trainyard.core import redis as redis_factory
from trainyard.core.clock import SystemClock
from trainyard.core.limits.redis import RedisLimiter
from trainyard.core.limits.types import Amount, Limits, Subject

WINDOW_S = 2.0
LEASE_S = 1.5
SUBJECT = Subject("tenant:t", Limits(requests=300, tokens=9_000, concurrency=20))
RESERVED = 40
CALLERS = 50


async def nothing_spent(subject: str, since: float, until: float) -> Amount:
    return Amount()


async def call(limiter: RedisLimiter, until_s: float) -> None:
    while (asked := time.monotonic()) < until_s:
        try:
            reservation = await limiter.reserve((SUBJECT,), Amount(RESERVED))
        except errors.LimitReached as error:
            await asyncio.sleep(min(error.retry_after_s or 0.01, 0.05))
            continue
        begun = time.monotonic()
        await asyncio.sleep(random.random() * 0.05)
        if random.random() < 0.1:
            ended = time.monotonic()
            await limiter.refund(reservation)
            report({"refunded": True, "asked": asked, "begun": begun, "ended": ended})
            continue
        used, ended = random.randint(1, RESERVED), time.monotonic()
        await limiter.settle(reservation, Amount(used))
        report({"tokens": used, "asked": asked, "begun": begun, "ended": ended, "settled": time.monotonic()})


def report(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")


async def main(url: str, seconds: float, mode: str) -> None:
    limiter = RedisLimiter(redis_factory.connect(url), nothing_spent, SystemClock(), window_s=WINDOW_S, lease_s=LEASE_S)
    if mode == "hold":  # until killed
        for _ in range(SUBJECT.limits.concurrency or 0):
            await limiter.reserve((SUBJECT,), Amount(RESERVED))
        sys.stdout.write("holding\n")
        sys.stdout.flush()
        await asyncio.sleep(seconds)
        return
    until_s = time.monotonic() + seconds
    await asyncio.gather(*[call(limiter, until_s) for _ in range(CALLERS)])
    await limiter.aclose()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), sys.argv[3]))
