import asyncio

import pytest

from tests.unit.core.metering.conftest import WHO, Yard, job
from trainyard.core import errors, head_lines
from trainyard.core.db.writer import GroupWriter, Write
from trainyard.core.limits.types import Limits
from trainyard.core.metering.types import Used

USED = Used(prompt_tokens=10, completion_tokens=5)
HIT = job(most=0, cached=True)


async def test_a_hit_is_free_takes_a_request_and_says_how_long_it_took(yard: Yard) -> None:
    yard.limits = Limits(requests=2, tokens=1)
    charge = await yard.meter.hit(WHO, HIT)
    yard.clock.advance(0.5)
    await charge.settle(USED)
    (entry,) = await yard.entries()
    assert (entry.cached, entry.charged_tokens, entry.cost_micros, entry.seconds) == (True, 0, 0, 0.5)
    assert (entry.prompt_tokens, entry.completion_tokens) == (10, 5)
    assert dict(head_lines.pairs(charge.lines))[b"x-ratelimit-remaining-requests"] == b"1"
    assert dict(head_lines.pairs(charge.lines))[b"x-ratelimit-remaining-tokens"] == b"1"


async def test_the_same_bar_stops_hits_and_work(yard: Yard) -> None:
    yard.limits = Limits(requests=1)
    await (await yard.meter.hit(WHO, HIT)).settle(USED)
    for call in (yard.meter.hit(WHO, HIT), yard.meter.open(WHO, job())):
        with pytest.raises(errors.LimitReached) as caught:
            await call
        assert caught.value.data["window_s"] == 60.0
    assert yard.metric("trainyard_refused_requests_total", reason="rate_limit_exceeded:requests") == 2


async def test_a_hit_ends_once(yard: Yard) -> None:
    yard.limits = Limits(requests=2)
    charge = await yard.meter.hit(WHO, HIT)
    await charge.settle(USED)
    await charge.settle(USED)
    await charge.refund()
    assert len(await yard.entries()) == 1
    await yard.meter.hit(WHO, HIT)
    with pytest.raises(errors.LimitReached):
        await yard.meter.hit(WHO, HIT)


@pytest.mark.parametrize("fault", [RuntimeError, asyncio.CancelledError])
async def test_a_hit_whose_block_is_left_gives_its_request_back(yard: Yard, fault: type[BaseException]) -> None:
    yard.limits = Limits(requests=1)
    with pytest.raises(fault):
        async with await yard.meter.hit(WHO, HIT):
            raise fault
    async with await yard.meter.hit(WHO, HIT) as charge:
        await charge.settle(USED)
    assert len(await yard.entries()) == 1
    assert yard.metric("trainyard_charges_total", end="refunded") == 1


async def test_a_hit_that_can_be_recorded_nowhere_gives_its_request_back(yard: Yard) -> None:
    yard.limits = Limits(requests=1)
    charge = await yard.meter.hit(WHO, HIT)
    await yard.writer.aclose()
    with pytest.raises(errors.Unavailable) as caught:
        await charge.settle(USED)
    assert caught.value.code == "ledger_unavailable"
    assert await yard.entries() == []
    await yard.meter.hit(WHO, HIT)
    assert yard.metric("trainyard_charges_total", end="lost") == 1


async def test_a_caller_who_leaves_while_a_hit_is_written_is_in_the_ledger_once(yard: Yard) -> None:
    charge = await yard.meter.hit(WHO, HIT)
    settling = asyncio.create_task(charge.settle(USED))
    await asyncio.sleep(0)  # it is with the writer now
    settling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settling
    await yard.meter.aclose()
    assert len(await yard.entries()) == 1
    assert yard.metric("trainyard_charges_total", end="cached") == 1


async def test_a_caller_who_leaves_a_hit_that_is_lost_has_his_request_back(yard: Yard) -> None:
    lost = Yard(yard.database, yard.clock, GroupWriter(f"sqlite:///{yard.database.engine.url.database}.gone"))
    lost.limits = Limits(requests=1)
    settling = asyncio.create_task((await lost.meter.hit(WHO, HIT)).settle(USED))
    await asyncio.sleep(0)
    settling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settling
    await lost.meter.aclose()
    await lost.meter.hit(WHO, HIT)
    await lost.writer.aclose()


async def test_what_comes_along_with_a_hit_is_in_the_same_transaction(yard: Yard) -> None:
    fact = Write("INSERT INTO core_facts (name, value) VALUES (:name, :value)", {"name": "n", "value": "v"})
    await (await yard.meter.hit(WHO, HIT)).settle(USED, fact)
    with pytest.raises(errors.Conflict):
        await (await yard.meter.hit(WHO, HIT)).settle(USED, fact)
    assert len(await yard.entries()) == 1


async def test_the_counters_tell_of_hits_without_a_place(yard: Yard) -> None:
    charge = await yard.meter.hit(WHO, HIT)
    assert yard.metric("trainyard_open_reservations") == 0
    await charge.settle(USED)
    assert yard.metric("trainyard_open_reservations") == 0
    assert yard.metric("trainyard_admitted_requests_total", route="/v1/generate") == 1
    assert yard.metric("trainyard_charges_total", end="cached") == 1
    assert yard.metric("trainyard_settled_tokens_total", model="pocket", kind="free") == 15
