import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from tests.unit.core.metering.conftest import WHO, Yard, job
from trainyard.core import errors, head_lines
from trainyard.core.db.writer import GroupWriter, Write
from trainyard.core.limits.types import Limits, Quota, Subject
from trainyard.core.metering.service import Metering
from trainyard.core.metering.types import Used
from trainyard.core.principal import Principal
from trainyard.core.telemetry import Metrics

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


# ---------------------------------------------------------------- at once
class Told(list[Exception | None]):
    """What became of hits."""

    def __init__(self) -> None:
        super().__init__()
        self.is_there = asyncio.Event()

    def __call__(self, outcome: Exception | None) -> None:
        self.append(outcome)
        self.is_there.set()


async def told(yard: Yard) -> tuple[bytes | None, Told]:
    """Begin a hit at once and wait until it is known what became of it."""
    told = Told()
    lines = yard.meter.hit_at_once(WHO, HIT, USED, told)
    assert told == []  # never before the call is over
    if lines is not None:
        async with asyncio.timeout(5):
            await told.is_there.wait()
    return lines, told


async def test_a_hit_at_once_is_what_a_hit_is(yard: Yard) -> None:
    yard.limits = Limits(requests=5, tokens=1)
    charge = await yard.meter.hit(WHO, HIT)
    await charge.settle(USED)
    lines, outcome = await told(yard)
    assert outcome == [None]
    first, second = await yard.entries()
    assert msgspec.structs.replace(first, entry_id=second.entry_id) == second
    assert first.entry_id != second.entry_id
    before, now = (dict(head_lines.pairs(each or b"")) for each in (charge.lines, lines))
    assert (before.pop(b"x-ratelimit-remaining-requests"), now.pop(b"x-ratelimit-remaining-requests")) == (b"4", b"3")
    assert (before.pop(b"ratelimit"), now.pop(b"ratelimit")) == (
        b'"requests";r=4;t=60, "tokens";r=1;t=0',
        b'"requests";r=3;t=60, "tokens";r=1;t=0',
    )
    assert before == now
    assert yard.metric("trainyard_admitted_requests_total", route="/v1/generate") == 2
    assert yard.metric("trainyard_charges_total", end="cached") == 2
    assert yard.metric("trainyard_settled_tokens_total", model="pocket", kind="free") == 30


@pytest.mark.parametrize(("began_s", "seconds"), [(None, 0.0), (0.0, 2.0), (1.5, 0.5)])
async def test_a_hit_at_once_took_as_long_as_its_request(yard: Yard, began_s: float | None, seconds: float) -> None:
    yard.clock.advance(2)
    outcome = Told()
    yard.meter.hit_at_once(WHO, msgspec.structs.replace(HIT, began_s=began_s), USED, outcome)
    await outcome.is_there.wait()
    assert [entry.seconds for entry in await yard.entries()] == [seconds]


async def test_200_hits_at_once_get_as_many_requests_as_the_bar(yard: Yard) -> None:
    yard.limits = Limits(requests=60)
    outcomes = [Told() for _ in range(200)]
    lines = [yard.meter.hit_at_once(WHO, HIT, USED, each) for each in outcomes]
    assert [each is not None for each in lines] == [True] * 60 + [False] * 140
    for each in outcomes[:60]:
        await each.is_there.wait()
    assert outcomes == [[None]] * 60 + [[]] * 140
    assert len(await yard.entries()) == 60


async def test_what_is_refused_at_once_is_counted_by_the_long_way_alone(yard: Yard) -> None:
    yard.limits = Limits(requests=1)
    await told(yard)
    assert await told(yard) == (None, [])
    assert yard.metric("trainyard_refused_requests_total", reason="rate_limit_exceeded:requests") == 0
    with pytest.raises(errors.LimitReached):
        await yard.meter.hit(WHO, HIT)
    assert yard.metric("trainyard_refused_requests_total", reason="rate_limit_exceeded:requests") == 1
    assert yard.metric("trainyard_admitted_requests_total", route="/v1/generate") == 1


async def test_a_quota_that_is_not_loaded_takes_the_long_way_once(yard: Yard) -> None:
    yard.quota = Quota(tokens=1000)
    assert await told(yard) == (None, [])
    await (await yard.meter.hit(WHO, HIT)).settle(USED)
    lines, outcome = await told(yard)
    assert (lines, outcome) == (b"", [None])


async def test_a_hit_at_once_that_is_lost_gives_its_request_back(yard: Yard) -> None:
    lost = Yard(yard.database, yard.clock, GroupWriter(f"sqlite:///{yard.database.engine.url.database}.gone"))
    lost.limits = Limits(requests=1)
    for times in (1, 2):
        lines, outcome = await told(lost)
        assert lines is not None
        assert [type(each) for each in outcome] == [errors.Unavailable]
        await lost.meter.aclose()
        assert lost.metric("trainyard_charges_total", end="lost") == times
    assert lost.metric("trainyard_charges_total", end="cached") == 0
    await lost.writer.aclose()


async def test_a_writer_that_takes_nothing_leaves_it_to_the_long_way(yard: Yard) -> None:
    yard.limits = Limits(requests=1)
    await yard.writer.aclose()
    assert await told(yard) == (None, [])
    await yard.meter.aclose()
    assert (await yard.meter.hit(WHO, HIT)).lines
    assert yard.metric("trainyard_admitted_requests_total", route="/v1/generate") == 1


async def test_a_key_that_was_revoked_in_between_is_told_by_an_error(yard: Yard) -> None:
    def gone(_: Principal) -> Sequence[Subject]:
        raise errors.Unauthenticated

    meter = Metering(yard.limiter, yard.ledger, gone, yard.clock, Metrics(), window_s=60.0)
    outcome = Told()
    with pytest.raises(errors.Unauthenticated):
        meter.hit_at_once(WHO, HIT, USED, outcome)
    assert (outcome, await yard.entries()) == ([], [])
