"""Quotas: the base is loaded from the ledger, and everything is counted once."""

import asyncio

import pytest

from tests.contract.core.limits import stand as stands
from tests.contract.core.limits.stand import START_S, Stand, key
from trainyard.core import errors
from trainyard.core.limits.types import Amount, Quota, Reservation, Subject

DECEMBER_S = 1_701_388_800
"""2023-12-01T00:00:00Z; the tests begin on 2023-11-14."""


def monthly(tokens: int | None = None, cost: int | None = None) -> Subject:
    return key(quota=Quota(tokens=tokens, cost_micros=cost))


async def used_and_held(stand: Stand, subject: Subject) -> tuple[object, object]:
    """What a quota counts, as a refusal tells it."""
    with pytest.raises(errors.QuotaExhausted) as caught:
        await stand.limiter.reserve((subject,), Amount(10**9))
    return caught.value.data["used"], caught.value.data["held"]


async def test_what_the_ledger_has_of_this_month_counts(stand: Stand) -> None:
    stand.books.write(START_S - 30 * 86_400, ["key:a"], Amount(10_000))
    stand.books.write(START_S - 86_400, ["key:a", "tenant:t"], Amount(60))
    stand.books.write(START_S - 86_400, ["key:b", "tenant:t"], Amount(5_000))
    subject = monthly(tokens=100)
    with pytest.raises(errors.QuotaExhausted) as caught:
        await stand.limiter.reserve((subject,), Amount(41))
    assert caught.value.code == "quota_exhausted"
    assert caught.value.data == {
        "scope": "key:a",
        "dimension": "tokens",
        "limit": 100,
        "used": 60,
        "held": 0,
        "reset_at": DECEMBER_S,
    }
    assert caught.value.retry_after_s == pytest.approx(DECEMBER_S - START_S, abs=0.002)
    assert "this key" in caught.value.message
    assert "2023-12-01T00:00:00+00:00" in caught.value.message
    await stand.work((subject,), 40)
    with pytest.raises(errors.QuotaExhausted):
        await stand.limiter.reserve((subject,), Amount(1))
    assert stand.books.questions == 1


async def test_cost_is_a_quota_of_its_own(stand: Stand) -> None:
    stand.books.write(START_S - 5, ["key:a"], Amount(0, 900))
    with pytest.raises(errors.QuotaExhausted) as caught:
        await stand.limiter.reserve((monthly(tokens=10**6, cost=1000),), Amount(10, 101))
    assert caught.value.data["dimension"] == "cost"
    assert (caught.value.data["limit"], caught.value.data["used"]) == (1000, 900)
    await stand.work((monthly(cost=1000),), 10, cost=100)
    await stand.limiter.reserve((monthly(cost=1000),), Amount(10, 0))  # a model without a price


async def test_an_answer_from_the_cache_passes_a_used_up_quota(stand: Stand) -> None:
    stand.books.write(START_S - 5, ["key:a"], Amount(500))
    await stand.limiter.reserve((monthly(tokens=100),), Amount(0, 0))


async def test_more_than_the_quota_has_no_retry(stand: Stand) -> None:
    with pytest.raises(errors.QuotaExhausted) as caught:
        await stand.limiter.reserve((monthly(tokens=100),), Amount(101))
    assert caught.value.retry_after_s is None
    assert "takes up to 101; ask for fewer new tokens; the next month" in caught.value.message


async def test_a_quota_that_only_running_work_holds_can_be_free_soon(stand: Stand) -> None:
    subject = monthly(tokens=100)
    reservation = await stand.limiter.reserve((subject,), Amount(100))
    with pytest.raises(errors.QuotaExhausted) as caught:
        await stand.limiter.reserve((subject,), Amount(10))
    assert caught.value.retry_after_s == 1.0
    await stand.limiter.refund(reservation)
    await stand.limiter.reserve((subject,), Amount(100))


async def test_1000_charges_at_once_are_counted_exactly(stand: Stand) -> None:
    stand.books.write(START_S - 5, ["key:a"], Amount(123))
    subject, charged = monthly(tokens=5000), 0

    async def charge(index: int) -> int:
        while True:
            try:
                reservation = await stand.limiter.reserve((subject,), Amount(20))
            except errors.QuotaExhausted as error:
                if not error.data["held"]:
                    return 0
                await asyncio.sleep(0.01)
                continue
            await asyncio.sleep(0)
            if index % 7 == 0:
                await stand.limiter.refund(reservation)
                return 0
            used = 20 - index % 3
            await stand.end(reservation, used)
            return used

    charged = sum(await asyncio.gather(*[charge(index) for index in range(1000)]))
    assert 5000 - 20 < charged + 123 <= 5000
    assert await used_and_held(stand, subject) == (charged + 123, 0)


async def test_requests_that_need_the_same_base_load_it_once(stand: Stand) -> None:
    stand.books.gate.clear()
    asking = [asyncio.create_task(stand.limiter.reserve((monthly(tokens=100),), Amount(10))) for _ in range(20)]
    await until_asked(stand)
    stand.books.write(START_S - 5, ["key:a"], Amount(30))
    stand.books.gate.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert sum(isinstance(each, Reservation) for each in answers) == 7
    assert stand.books.questions == 1


async def test_the_one_who_asked_may_leave_while_others_wait(stand: Stand) -> None:
    stand.books.gate.clear()
    first, second = [asyncio.create_task(stand.limiter.reserve((monthly(tokens=100),), Amount(100))) for _ in range(2)]
    await until_asked(stand)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    stand.books.gate.set()
    assert (await second).is_open
    assert stand.books.questions == 1


async def test_a_failed_load_lets_nobody_in_and_is_tried_again(stand: Stand) -> None:
    stand.books.failure = errors.Unavailable("the database is away", code="database_unavailable")
    for _ in range(2):
        with pytest.raises(errors.Unavailable) as caught:
            await stand.limiter.reserve((monthly(tokens=100),), Amount(1))
        assert caught.value.code == "database_unavailable"
    stand.books.failure = None
    await stand.limiter.reserve((monthly(tokens=100),), Amount(100))


@pytest.mark.parametrize("is_written_first", [True, False])
@pytest.mark.parametrize("ends", ["before the load", "while it loads", "after the load"])
async def test_work_that_began_without_the_quota_is_counted_once(
    stand: Stand, ends: str, is_written_first: bool
) -> None:
    """An administrator gives a key a quota while its work runs; the ledger is asked at some moment of its end."""
    quota = monthly(tokens=1000)
    running = [await stand.limiter.reserve((key(),), Amount(100)) for _ in range(2)]
    stand.clock.advance(2)
    await stand.end(await stand.limiter.reserve((key(),), Amount(100)), 7)  # began and ended beside them
    stand.clock.advance(2)
    at = stand.clock.now()
    if is_written_first:
        stand.books.write(at, ["key:a"], Amount(40))
    stand.books.gate.clear()
    if ends == "before the load":
        await finish(stand, running[0], at, is_written_first)
    asking = asyncio.create_task(stand.limiter.reserve((quota,), Amount(1)))
    await until_asked(stand)
    if ends == "while it loads":
        await finish(stand, running[0], at, is_written_first)
    stand.books.gate.set()
    await stand.limiter.refund(await asking)
    if ends == "after the load":
        assert await used_and_held(stand, quota) == (7, 200)
        await finish(stand, running[0], at, is_written_first)
    assert await used_and_held(stand, quota) == (47, 100)
    assert stand.books.questions == 1


async def finish(stand: Stand, reservation: Reservation, at: float, is_written: bool) -> None:
    if not is_written:
        stand.books.write(at, ["key:a"], Amount(40))
    await stand.limiter.settle(reservation, Amount(40), at=at)


async def until_asked(stand: Stand) -> None:
    """Wait until the ledger is being asked."""
    async with asyncio.timeout(5):
        while not stand.books.questions:  # noqa: ASYNC110 - of another task's making
            await asyncio.sleep(0.001)


async def test_a_stream_over_the_end_of_the_month_belongs_to_the_month_of_its_entry(stand: Stand) -> None:
    subject = monthly(tokens=100)
    stand.clock.advance(DECEMBER_S - START_S - 3)
    old, new = [await stand.limiter.reserve((subject,), Amount(40)) for _ in range(2)]
    stand.clock.advance(2)
    at = stand.clock.now()  # a second before the end: written in November, told in December
    stand.books.write(at, ["key:a"], Amount(30))
    stand.clock.advance(2)
    await stand.limiter.settle(old, Amount(30), at=at)
    assert await used_and_held(stand, subject) == (0, 40)
    await stand.end(new, 35)
    assert await used_and_held(stand, subject) == (35, 0)
    await stand.limiter.reserve((subject,), Amount(65))


async def test_an_end_in_the_new_month_counts_before_anybody_asks_there(stand: Stand) -> None:
    subject = monthly(tokens=100)
    stand.clock.advance(DECEMBER_S - START_S - 1)
    reservation = await stand.limiter.reserve((subject,), Amount(40))
    stand.clock.advance(1)
    await stand.end(reservation, 35)
    stand.clock.advance(1000)
    assert await used_and_held(stand, subject) == (35, 0)


async def test_the_quota_is_new_at_the_moment_that_was_told(stand: Stand) -> None:
    subject = monthly(tokens=100)
    await stand.work((subject,), 100)
    with pytest.raises(errors.QuotaExhausted) as caught:
        await stand.limiter.reserve((subject,), Amount(1))
    assert caught.value.retry_after_s is not None
    stand.clock.advance(caught.value.retry_after_s - 0.003)
    with pytest.raises(errors.QuotaExhausted):
        await stand.limiter.reserve((subject,), Amount(1))
    stand.clock.advance(0.003)
    await stand.limiter.reserve((subject,), Amount(100))


@pytest.mark.parametrize(
    ("changed", "used"),
    [
        pytest.param(Quota(tokens=10), 70, id="the bar"),
        pytest.param(Quota(tokens=10, day=14), 60, id="the day: since 2023-11-14T00:00Z"),
        pytest.param(Quota(tokens=10, reset_at=START_S - 60), 50, id="a reset in the past"),
        pytest.param(Quota(tokens=10, reset_at=START_S + 5), 0, id="a reset that has just come"),
        # 2023-11-15T00:00 in Auckland (UTC+13) was 11:00 UTC on the 14th.
        pytest.param(Quota(tokens=10, day=15, time_zone="Pacific/Auckland"), 60, id="zone and day"),
    ],
)
async def test_a_changed_quota_counts_for_the_next_request(stand: Stand, changed: Quota, used: int) -> None:
    stand.books.write(START_S - 86_400, ["key:a"], Amount(10))
    stand.books.write(START_S - 3600, ["key:a"], Amount(10))
    await stand.work((monthly(tokens=1000),), 50)
    held = await stand.limiter.reserve((monthly(tokens=1000),), Amount(20))
    stand.clock.advance(5)
    assert await used_and_held(stand, key(quota=changed)) == (used, 20)
    await stand.end(held, 15)
    assert await used_and_held(stand, key(quota=changed)) == (used + 15, 0)


async def test_a_restarted_server_knows_what_was_used(stand: Stand) -> None:
    await stand.work((monthly(tokens=100),), 70)
    stand.clock.advance(2)
    again = stands.memory_stand(stand.clock.now())
    again.books.entries = stand.books.entries
    assert await used_and_held(again, monthly(tokens=100)) == (70, 0)


async def test_an_idle_key_is_loaded_again(stand: Stand) -> None:
    subject = monthly(tokens=100)
    await stand.work((subject,), 30)
    stand.clock.advance(3600)
    await stand.limiter.reserve((key("another"),), Amount(1))
    stand.books.write(stand.clock.now() - 5, ["key:other"], Amount(1))
    assert await used_and_held(stand, subject) == (30, 0)


async def test_an_entry_from_before_the_clock_went_back_is_counted_once(stand: Stand) -> None:
    """Its time is earlier than what the ledger was asked for, so the ledger is asked again."""
    subject = monthly(tokens=1000)
    reservation = await stand.limiter.reserve((subject,), Amount(100))
    at = START_S - 5
    stand.books.write(at, ["key:a"], Amount(60))
    await stand.limiter.settle(reservation, Amount(60), at=at)
    assert await used_and_held(stand, subject) == (60, 0)
    assert stand.books.questions == 2
