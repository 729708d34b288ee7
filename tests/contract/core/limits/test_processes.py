"""Four processes of callers on one Redis, watched by what they wrote down themselves."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import observer
from benchmarks.observer import Mark
from tests.contract.core.limits import callers
from trainyard.core import errors
from trainyard.core import redis as redis_factory
from trainyard.core.clock import SystemClock
from trainyard.core.limits.redis import RedisLimiter
from trainyard.core.limits.types import Amount, Reservation

_ROOT = Path(__file__).parents[4]


def start(url: str, seconds: float, mode: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.contract.core.limits.callers", url, str(seconds), mode]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=_ROOT)


def stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=30)


@pytest.mark.timeout(90)
def test_four_processes_stay_within_every_bar_and_use_it(redis_url: str) -> None:
    running = [start(redis_url, 6, "call") for _ in range(4)]
    try:
        lines: list[dict[str, Any]] = [
            json.loads(line) for process in running for line in process.communicate(timeout=60)[0].splitlines()
        ]
    finally:
        for process in running:
            stop(process)
    bars = callers.SUBJECT.limits
    assert bars.requests is not None
    assert bars.tokens is not None
    settled = [line for line in lines if "tokens" in line]
    begun = [Mark(line["asked"], line["begun"]) for line in settled]
    ended = [Mark(line["ended"], line["settled"], line["tokens"]) for line in settled]
    assert observer.most_at_once([(line["begun"], line["ended"]) for line in lines]) <= (bars.concurrency or 0)
    assert observer.most_in_a_window(begun, callers.WINDOW_S) <= bars.requests
    assert observer.most_in_a_window(ended, callers.WINDOW_S) <= bars.tokens
    windows = 6 / callers.WINDOW_S
    is_busy = len(settled) >= 0.5 * windows * bars.requests
    assert is_busy or sum(line["tokens"] for line in settled) >= 0.5 * windows * bars.tokens


@pytest.mark.timeout(60)
async def test_a_killed_process_frees_what_it_held_within_its_lease(redis_url: str) -> None:
    limiter = RedisLimiter(
        redis_factory.connect(redis_url),
        callers.nothing_spent,
        SystemClock(),
        window_s=callers.WINDOW_S,
        lease_s=callers.LEASE_S,
    )
    process = start(redis_url, 60, "hold")
    try:
        assert process.stdout is not None
        assert await asyncio.to_thread(process.stdout.readline) == "holding\n"
        await asyncio.sleep(2 * callers.LEASE_S)  # renewed while it lives
        with pytest.raises(errors.LimitReached) as caught:
            await limiter.reserve((callers.SUBJECT,), Amount(1))
        assert caught.value.data["dimension"] == "concurrency"
        process.send_signal(signal.SIGKILL)
        killed_s = time.monotonic()
        held = await until_let_in(limiter)
        assert time.monotonic() - killed_s < callers.LEASE_S + 1
        assert held.tokens is not None
        assert held.tokens.remaining == held.tokens.limit - 1
    finally:
        stop(process)
    await limiter.aclose()


async def until_let_in(limiter: RedisLimiter) -> Reservation:
    while True:
        try:
            return await limiter.reserve((callers.SUBJECT,), Amount(1))
        except errors.LimitReached:
            await asyncio.sleep(0.05)
