import asyncio

import pytest
from msgspec.structs import replace
from sqlalchemy import select

from tests.unit.core.metering.conftest import WHO, Yard, job
from trainyard.core import errors, head_lines
from trainyard.core.db.writer import GroupWriter, Write
from trainyard.core.ledger.store import work
from trainyard.core.ledger.types import Work
from trainyard.core.limits.types import Limits, Quota
from trainyard.core.metering.types import Used

USED = Used(prompt_tokens=10, completion_tokens=5)


async def test_an_entry_says_who_used_what_and_what_it_cost(yard: Yard) -> None:
    charge = await yard.meter.open(WHO, job())
    yard.clock.advance(1.5)
    await charge.settle(replace(USED, cached_tokens=4, outcome="cancelled"))
    (entry,) = await yard.entries()
    assert (entry.tenant, entry.user, entry.key_id, entry.request_id) == ("lab", "ada", "key_a", "req_1")
    assert (entry.route, entry.model, entry.outcome, entry.cached) == ("/v1/generate", "pocket", "cancelled", False)
    assert (entry.prompt_tokens, entry.cached_tokens, entry.completion_tokens) == (10, 4, 5)
    assert (entry.charged_tokens, entry.cost_micros) == (15, 20)  # 10 x 1 + 5 x 2
    assert (entry.at, entry.seconds) == (yard.clock.now(), 1.5)


async def test_an_answer_from_the_cache_is_free_and_takes_a_request(yard: Yard) -> None:
    yard.limits = Limits(requests=2, tokens=1)
    charge = await yard.meter.open(WHO, job(cached=True))
    await charge.settle(USED)
    (entry,) = await yard.entries()
    assert (entry.cached, entry.charged_tokens, entry.cost_micros) == (True, 0, 0)
    assert (entry.prompt_tokens, entry.completion_tokens) == (10, 5)
    assert dict(head_lines.pairs(charge.lines))[b"x-ratelimit-remaining-requests"] == b"1"


async def test_parts_that_were_there_already_are_free(yard: Yard) -> None:
    charge = await yard.meter.open(WHO, job())
    await charge.settle(replace(USED, free_prompt_tokens=6, free_completion_tokens=2))
    (entry,) = await yard.entries()
    assert (entry.charged_tokens, entry.cost_micros) == (7, 10)  # 4 x 1 + 3 x 2
    assert (entry.prompt_tokens, entry.completion_tokens) == (10, 5)


async def test_work_beside_tokens_stands_beside_the_entry_and_costs_others_nothing(yard: Yard) -> None:
    ran, plain = await yard.meter.open(WHO, job()), await yard.meter.open(WHO, job())
    await ran.settle(replace(USED, work=Work(cpu_s=0.5, bytes_in=3, bytes_out=4)))
    await plain.settle(USED)
    entries = {entry.entry_id for entry in await yard.entries()}
    assert len(entries) == 2
    with yard.database.read() as connection:
        (row,) = connection.execute(select(work.work)).all()
    assert row.entry_id in entries
    assert tuple(row)[1:] == (0.5, 3, 4)


async def test_a_reservation_holds_the_most_and_settles_what_was_used(yard: Yard) -> None:
    yard.limits = Limits(tokens=40)
    first = await yard.meter.open(WHO, job())  # holds 30 of 40
    with pytest.raises(errors.LimitReached):
        await yard.meter.open(WHO, job())
    await first.settle(USED)  # 15 of 40
    second = await yard.meter.open(WHO, job(most=15))  # holds 25, 40 of 40
    assert dict(head_lines.pairs(second.lines))[b"x-ratelimit-remaining-tokens"] == b"0"


async def test_a_refund_undoes_the_request(yard: Yard) -> None:
    yard.limits = Limits(requests=1, concurrency=1)
    charge = await yard.meter.open(WHO, job())
    await charge.refund()
    await charge.refund()
    await charge.settle(USED)
    assert await yard.entries() == []
    await yard.meter.open(WHO, job())


async def test_a_charge_is_settled_once(yard: Yard) -> None:
    yard.limits = Limits(concurrency=2)
    charge = await yard.meter.open(WHO, job())
    await charge.settle(USED)
    await charge.settle(USED)
    await charge.refund()
    assert len(await yard.entries()) == 1
    assert await yard.ledger.spent("key:key_a", 0.0, 4e9) == await yard.ledger.spent("tenant:lab", 0.0, 4e9)
    for _ in range(2):
        await yard.meter.open(WHO, job())
    with pytest.raises(errors.LimitReached):
        await yard.meter.open(WHO, job())


@pytest.mark.parametrize("fault", [RuntimeError, asyncio.CancelledError])
async def test_a_block_that_is_left_without_an_end_refunds(yard: Yard, fault: type[BaseException]) -> None:
    yard.limits = Limits(concurrency=1, requests=1)
    with pytest.raises(fault):
        async with await yard.meter.open(WHO, job()):
            raise fault
    async with await yard.meter.open(WHO, job()) as charge:
        await charge.settle(USED)
    assert len(await yard.entries()) == 1
    assert yard.metric("trainyard_open_reservations") == 0


async def test_writes_that_come_along_are_in_the_same_transaction(yard: Yard) -> None:
    fact = Write("INSERT INTO core_facts (name, value) VALUES (:name, :value)", {"name": "n", "value": "v"})
    await (await yard.meter.open(WHO, job())).settle(USED, fact)
    second = await yard.meter.open(WHO, job())
    with pytest.raises(errors.Conflict):
        await second.settle(USED, fact)
    assert len(await yard.entries()) == 1


async def test_nobody_waits_and_still_the_entry_is_written_and_the_place_is_free(yard: Yard) -> None:
    yard.limits = Limits(concurrency=1, tokens=45)
    charge = await yard.meter.open(WHO, job())
    settling = asyncio.create_task(charge.settle(USED))
    await asyncio.sleep(0)  # it is with the writer now
    settling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await settling
    await yard.meter.aclose()
    assert len(await yard.entries()) == 1
    again = await yard.meter.open(WHO, job())
    assert dict(head_lines.pairs(again.lines))[b"x-ratelimit-remaining-tokens"] == b"0"  # 15 settled, 30 held, of 45


async def test_what_can_be_recorded_nowhere_is_not_charged(yard: Yard) -> None:
    yard.limits = Limits(concurrency=1, tokens=30)
    charge = await yard.meter.open(WHO, job())
    await yard.writer.aclose()
    with pytest.raises(errors.Unavailable) as caught:
        await charge.settle(USED)
    assert caught.value.code == "ledger_unavailable"
    assert await yard.entries() == []
    await yard.meter.open(WHO, job())  # all 30 are there again
    assert yard.metric("trainyard_charges_total", end="lost") == 1


async def test_a_file_that_is_gone_without_a_spool_refunds(yard: Yard) -> None:
    lost = Yard(yard.database, yard.clock, GroupWriter(f"sqlite:///{yard.database.engine.url.database}.gone"))
    lost.limits = Limits(concurrency=1)
    for leaves in (False, True):
        charge = await lost.meter.open(WHO, job())
        settling = asyncio.create_task(charge.settle(USED))
        await asyncio.sleep(0)
        if leaves:
            settling.cancel()
        with pytest.raises(asyncio.CancelledError if leaves else errors.Unavailable):
            await settling
        await lost.meter.aclose()
    await lost.meter.open(WHO, job())
    await lost.writer.aclose()


async def test_an_exhausted_quota_says_when_it_begins_anew(yard: Yard) -> None:
    yard.quota = Quota(tokens=31)
    await (await yard.meter.open(WHO, job())).settle(USED)
    with pytest.raises(errors.QuotaExhausted) as caught:
        await yard.meter.open(WHO, job())
    reset_at = caught.value.data["reset_at"]
    assert isinstance(reset_at, int | float)
    assert caught.value.retry_after_s == pytest.approx(reset_at - yard.clock.now(), abs=1)
    assert yard.metric("trainyard_refused_requests_total", reason="quota_exhausted:tokens") == 1


async def test_waiting_does_not_help_who_asks_for_more_than_the_whole_quota(yard: Yard) -> None:
    yard.quota = Quota(tokens=29)
    with pytest.raises(errors.QuotaExhausted) as caught:
        await yard.meter.open(WHO, job())
    assert caught.value.retry_after_s is None


async def test_the_counters_tell_what_happened(yard: Yard) -> None:
    yard.limits = Limits(concurrency=1)
    charge = await yard.meter.open(WHO, job())
    assert yard.metric("trainyard_open_reservations") == 1
    with pytest.raises(errors.LimitReached):
        await yard.meter.open(WHO, job())
    await charge.settle(replace(USED, cached_tokens=4))
    await (await yard.meter.open(WHO, job(cached=True))).settle(USED)
    assert yard.metric("trainyard_open_reservations") == 0
    assert yard.metric("trainyard_admitted_requests_total", route="/v1/generate") == 2
    assert yard.metric("trainyard_refused_requests_total", reason="rate_limit_exceeded:concurrency") == 1
    tokens = {kind: yard.metric("trainyard_settled_tokens_total", model="pocket", kind=kind) for kind in _KINDS}
    assert tokens == {"prompt": 10, "prompt_cached": 4, "completion": 5, "free": 15}
    assert yard.metric("trainyard_settled_cost_micros_total", model="pocket") == 20
    assert [yard.metric("trainyard_charges_total", end=end) for end in ("done", "cached")] == [1, 1]


_KINDS = ("prompt", "prompt_cached", "completion", "free")


async def test_entries_of_one_moment_have_ids_of_their_own_that_sort_by_time(yard: Yard) -> None:
    for moment in range(3):
        for _ in range(20):
            await (await yard.meter.open(WHO, job())).settle(USED)
        yard.clock.advance(0.001 if moment else 3600)
    entries = await yard.entries()
    assert len({entry.entry_id for entry in entries}) == 60
    by_id = sorted(entries, key=lambda entry: entry.entry_id)
    assert [entry.at for entry in by_id] == sorted(entry.at for entry in entries)
