"""Whatever becomes of many requests at once, the ledger, the limiter and the answers agree to the token."""

import asyncio
import random

import pytest

from tests.unit.core.metering.conftest import WHO, Yard, job
from trainyard.core import errors
from trainyard.core.limits.types import Limits, Quota
from trainyard.core.metering.types import Used

_QUOTA = 4_000


@pytest.mark.parametrize("seed", range(5))
async def test_two_hundred_callers_that_finish_fail_and_leave(yard: Yard, seed: int) -> None:
    yard.limits, yard.quota = Limits(concurrency=50), Quota(tokens=_QUOTA)
    chance = random.Random(seed)
    answered: list[int] = []

    async def settle_and_note(prompt: int, completion: int) -> None:
        async with await yard.meter.open(WHO, job(prompt=prompt, most=20)) as charge:
            await asyncio.sleep(0)
            if completion == 0:
                raise RuntimeError
            used = Used(prompt_tokens=prompt, completion_tokens=completion)
            try:
                await charge.settle(used)
            finally:  # cancelled in the middle of it, it is charged all the same
                answered.append(prompt + completion)

    async def caller() -> None:
        for _ in range(4):
            asking = asyncio.create_task(settle_and_note(chance.randint(1, 30), chance.choice([0, 5, 20])))
            for _ in range(chance.randint(0, 6)):
                await asyncio.sleep(0)
            if chance.random() < 0.3:
                asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    await asyncio.gather(*(caller() for _ in range(200)))
    await yard.meter.aclose()
    entries = await yard.entries()
    assert sorted(entry.charged_tokens for entry in entries) == sorted(answered)
    assert len({entry.entry_id for entry in entries}) == len(entries)
    spent = (await yard.ledger.spent("key:key_a", 0.0, 4e9)).tokens
    assert 0 < spent == sum(answered) <= _QUOTA
    assert yard.metric("trainyard_open_reservations") == 0
    left = _QUOTA - spent
    with pytest.raises(errors.QuotaExhausted):
        await yard.meter.open(WHO, job(prompt=left, most=1))
    if left:
        await yard.meter.open(WHO, job(prompt=left, most=0))
