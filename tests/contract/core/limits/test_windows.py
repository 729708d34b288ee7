"""Requests, tokens and concurrency; `WINDOW_S` is 10."""

import asyncio

import pytest

from tests.contract.core.limits.stand import Stand, key
from trainyard.core import errors
from trainyard.core.limits.types import Amount, Limits, Reservation, Standing, Subject

ONE = Amount(1)


async def granted(stand: Stand, subject: Subject, amount: Amount, calls: int) -> list[Reservation]:
    """Those of many calls at the same moment that were let in."""
    answers = await asyncio.gather(
        *[stand.limiter.reserve((subject,), amount) for _ in range(calls)], return_exceptions=True
    )
    assert all(isinstance(each, Reservation | errors.TrainyardError) for each in answers)
    return [each for each in answers if isinstance(each, Reservation)]


async def test_a_subject_without_bars_is_let_in(stand: Stand) -> None:
    reservation = await stand.limiter.reserve((Subject("key:a"), Subject("tenant:t")), Amount(10**9, 10**9))
    assert reservation.requests is None
    assert reservation.tokens is None


async def test_nobody_to_limit_is_let_in(stand: Stand) -> None:
    await stand.limiter.settle(await stand.limiter.reserve((), ONE), ONE)


async def test_200_callers_at_once_get_as_many_requests_as_the_bar(stand: Stand) -> None:
    assert len(await granted(stand, key(requests=60), ONE, 200)) == 60


async def test_200_callers_at_once_get_as_many_tokens_as_the_bar(stand: Stand) -> None:
    assert len(await granted(stand, key(tokens=1000), Amount(30), 200)) == 33


async def test_200_callers_at_once_run_as_many_as_the_bar(stand: Stand) -> None:
    held = await granted(stand, key(concurrency=7), ONE, 200)
    assert len(held) == 7
    await stand.limiter.settle(held[0], ONE)
    await stand.limiter.refund(held[1])
    assert len(await granted(stand, key(concurrency=7), ONE, 200)) == 2


async def test_a_burst_at_the_edge_of_a_window_does_not_pass_twice(stand: Stand) -> None:
    subject = key(requests=3)
    stand.clock.advance(9.875)
    assert len(await granted(stand, subject, ONE, 5)) == 3
    stand.clock.advance(9.875)  # a fixed window would have begun anew
    assert len(await granted(stand, subject, ONE, 5)) == 0
    stand.clock.advance(0.125)
    assert len(await granted(stand, subject, ONE, 5)) == 3


async def test_requests_leave_the_window_one_by_one(stand: Stand) -> None:
    subject = key(requests=2)
    await stand.work((subject,), 0)
    stand.clock.advance(4)
    await stand.work((subject,), 0)
    with pytest.raises(errors.LimitReached) as caught:
        await stand.limiter.reserve((subject,), ONE)
    assert caught.value.retry_after_s == pytest.approx(6, abs=0.002)
    assert caught.value.code == "rate_limit_exceeded"
    assert caught.value.data == {"scope": "key:a", "dimension": "requests", "limit": 2, "remaining": 0}
    assert "this key is 2 requests per 10 s" in caught.value.message
    stand.clock.advance(6)
    assert len(await granted(stand, subject, ONE, 2)) == 1


async def test_tokens_count_from_the_moment_of_settling(stand: Stand) -> None:
    subject = key(tokens=100)
    reservation = await stand.limiter.reserve((subject,), Amount(80))
    stand.clock.advance(60)  # six windows: what runs counts however old it is
    with pytest.raises(errors.LimitReached) as caught:
        await stand.limiter.reserve((subject,), Amount(40))
    assert caught.value.data == {"scope": "key:a", "dimension": "tokens", "limit": 100, "remaining": 20}
    assert caught.value.retry_after_s == 1.0  # running work has to end first
    await stand.end(reservation, 70)
    stand.clock.advance(9.875)
    with pytest.raises(errors.LimitReached) as caught:
        await stand.limiter.reserve((subject,), Amount(40))
    assert caught.value.retry_after_s == pytest.approx(0.125, abs=0.002)
    assert caught.value.data["remaining"] == 30
    stand.clock.advance(0.125)
    await stand.limiter.reserve((subject,), Amount(100))


async def test_tokens_that_were_not_used_are_free_at_once(stand: Stand) -> None:
    subject = key(tokens=100)
    await stand.work((subject,), 100, used=10)
    await stand.work((subject,), 90, used=90)
    with pytest.raises(errors.LimitReached):
        await stand.limiter.reserve((subject,), ONE)


async def test_more_than_was_reserved_counts_whole(stand: Stand) -> None:
    subject = key(tokens=100)
    await stand.work((subject,), 10, used=130)
    with pytest.raises(errors.LimitReached) as caught:
        await stand.limiter.reserve((subject,), ONE)
    assert caught.value.data["remaining"] == 0
    assert caught.value.retry_after_s == pytest.approx(10, abs=0.002)
    await stand.limiter.reserve((subject,), Amount(0))  # takes nothing of what is overdrawn


async def test_a_refund_undoes_the_request_too(stand: Stand) -> None:
    subject = key(requests=1, tokens=10, concurrency=1)
    for _ in range(3):
        await stand.limiter.refund(await stand.limiter.reserve((subject,), Amount(10)))
    reservation = await stand.limiter.reserve((subject,), Amount(10))
    assert reservation.requests == Standing(1, 0, 10.0)


async def test_a_refund_leaves_the_requests_of_others(stand: Stand) -> None:
    subject = key(requests=3)
    held = []
    for _ in range(3):
        held.append(await stand.limiter.reserve((subject,), ONE))
        stand.clock.advance(2)
    await stand.limiter.refund(held[1])  # begun after 2 s, now it is 6
    await stand.limiter.reserve((subject,), ONE)
    with pytest.raises(errors.LimitReached) as caught:
        await stand.limiter.reserve((subject,), ONE)
    assert caught.value.retry_after_s == pytest.approx(4, abs=0.002)


async def test_a_refund_after_the_window_changes_no_other_request(stand: Stand) -> None:
    subject = key(requests=1)
    old = await stand.limiter.reserve((subject,), ONE)
    stand.clock.advance(10)
    await stand.limiter.reserve((subject,), ONE)
    await stand.limiter.refund(old)
    with pytest.raises(errors.LimitReached):
        await stand.limiter.reserve((subject,), ONE)


async def test_the_end_counts_once(stand: Stand) -> None:
    subject = key(tokens=100, concurrency=2)
    reservation, other = [await stand.limiter.reserve((subject,), Amount(20)) for _ in range(2)]
    await stand.limiter.settle(reservation, Amount(20))
    await stand.limiter.settle(reservation, Amount(20))
    await stand.limiter.refund(reservation)
    assert not reservation.is_open
    assert other.is_open
    left = await stand.limiter.reserve((subject,), Amount(20))
    assert left.tokens == Standing(100, 40, 10.0)
    with pytest.raises(errors.LimitReached):
        await stand.limiter.reserve((subject,), Amount(20))


async def test_all_subjects_are_taken_or_none(stand: Stand) -> None:
    mine, tenant = key(requests=10, tokens=100, concurrency=5), Subject("tenant:acme", Limits(requests=1))
    await stand.limiter.reserve((mine, tenant), Amount(10))
    for _ in range(5):
        with pytest.raises(errors.LimitReached) as caught:
            await stand.limiter.reserve((mine, tenant), Amount(10))
        assert caught.value.data["scope"] == "tenant:acme"
        assert "tenant acme" in caught.value.message
    left = await stand.limiter.reserve((mine,), Amount(10))
    assert left.requests == Standing(10, 8, 10.0)
    assert left.tokens == Standing(100, 80, 10.0)


async def test_a_tenant_is_shared_by_its_keys(stand: Stand) -> None:
    tenant = Subject("tenant:t", Limits(requests=3))
    for name in "abc":
        await stand.limiter.reserve((key(name, requests=3), tenant), ONE)
    with pytest.raises(errors.LimitReached):
        await stand.limiter.reserve((key("d", requests=3), tenant), ONE)


async def test_the_standing_is_that_of_the_tightest_subject(stand: Stand) -> None:
    mine, tenant = key(requests=10, tokens=50), Subject("tenant:t", Limits(requests=5, tokens=500))
    reservation = await stand.limiter.reserve((mine, tenant), Amount(20))
    assert reservation.requests == Standing(5, 4, 10.0)
    assert reservation.tokens == Standing(50, 30, 10.0)


async def test_the_standing_of_tokens_tells_when_the_last_settled_ones_leave(stand: Stand) -> None:
    subject = key(tokens=50)
    await stand.work((subject,), 20)
    stand.clock.advance(4)
    reservation = await stand.limiter.reserve((subject,), Amount(0))
    assert reservation.tokens == Standing(50, 30, 6.0)


async def test_the_longest_wait_of_all_bars_is_told(stand: Stand) -> None:
    mine, tenant = key(requests=1), Subject("tenant:t", Limits(requests=2))
    await stand.work((key("b"), tenant), 0)
    stand.clock.advance(3)
    await stand.work((mine, tenant), 0)
    with pytest.raises(errors.LimitReached) as caught:  # the tenant is free after 7 s, the key after 10
        await stand.limiter.reserve((mine, tenant), ONE)
    assert caught.value.retry_after_s == pytest.approx(10, abs=0.002)
    assert caught.value.data["scope"] == "key:a"


@pytest.mark.parametrize(
    ("subject", "dimension", "told"),
    [
        (key(tokens=9), "tokens", "takes up to 10 tokens, and this key may use 9 per 10 s; ask for fewer new tokens"),
        (key(requests=0), "requests", "limit of requests of this key is 0"),
        (key(concurrency=0), "concurrency", "limit of concurrency of this key is 0"),
    ],
)
async def test_what_no_wait_can_cure_is_no_question_of_limits(
    stand: Stand, subject: Subject, dimension: str, told: str
) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        await stand.limiter.reserve((subject,), Amount(10))
    assert caught.value.code == "request_exceeds_limit"
    assert caught.value.data["dimension"] == dimension
    assert told in caught.value.message
    assert caught.value.retry_after_s is None


async def test_a_new_bar_counts_for_the_next_request(stand: Stand) -> None:
    held = [await stand.limiter.reserve((key(),), Amount(30)) for _ in range(2)]
    with pytest.raises(errors.LimitReached) as caught:
        await stand.limiter.reserve((key(concurrency=2),), ONE)
    assert caught.value.data["dimension"] == "concurrency"
    with pytest.raises(errors.LimitReached) as caught:
        await stand.limiter.reserve((key(tokens=90),), Amount(31))
    assert caught.value.data["remaining"] == 30
    await stand.limiter.settle(held[0], Amount(25))
    reservation = await stand.limiter.reserve((key(tokens=90),), Amount(1))
    assert reservation.tokens == Standing(90, 34, 10.0)


async def test_a_bar_that_is_gone_stops_nobody(stand: Stand) -> None:
    await stand.work((key(requests=1),), 0)
    await stand.work((key(),), 0)
    with pytest.raises(errors.LimitReached):
        await stand.limiter.reserve((key(requests=1),), ONE)


async def test_the_limiter_answers_when_asked(stand: Stand) -> None:
    await stand.limiter.ping()


async def test_ids_are_unique(stand: Stand) -> None:
    ids = {(await stand.limiter.reserve((), ONE)).id for _ in range(100)}
    assert len(ids) == 100


async def test_a_key_that_was_idle_for_long_is_not_forgotten_while_it_is_asked_for(stand: Stand) -> None:
    await stand.work((key("a"),), 0)
    stand.clock.advance(3600)
    both = (key("a", concurrency=1), Subject("tenant:new"))
    await stand.limiter.reserve(both, ONE)
    with pytest.raises(errors.LimitReached):
        await stand.limiter.reserve(both, ONE)


async def test_what_a_long_stream_used_counts_though_its_key_was_idle_otherwise(stand: Stand) -> None:
    subject = key("a", tokens=100)
    reservation = await stand.limiter.reserve((subject,), Amount(100))
    stand.clock.advance(3600)
    await stand.end(reservation, 100)
    await stand.limiter.reserve((key("new"),), ONE)
    with pytest.raises(errors.LimitReached):
        await stand.limiter.reserve((subject,), ONE)


async def test_a_refusal_counts_only_what_is_in_the_window_still(stand: Stand) -> None:
    """Two bars are in the way; the second one is looked at as closely as the first."""
    await stand.work((key(tokens=50, concurrency=9),), 45)
    stand.clock.advance(10)
    held = await stand.limiter.reserve((key(concurrency=9),), Amount(20))
    with pytest.raises(errors.LimitReached) as caught:
        await stand.limiter.reserve((key(tokens=50, concurrency=1),), Amount(40))
    assert caught.value.retry_after_s == 1.0
    await stand.end(held, 20)
    reservation = await stand.limiter.reserve((key(tokens=50, concurrency=1),), Amount(30))
    assert reservation.tokens == Standing(50, 0, 10.0)
