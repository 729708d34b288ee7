"""Requests whose answer is there already: one step, and nothing is held."""

import asyncio

import pytest
from redis.asyncio import Redis

from tests.contract.core.limits import stand as stands
from tests.contract.core.limits.stand import Stand, key
from tests.contract.core.limits.test_redis import real_limiter
from trainyard.core import errors
from trainyard.core.limits.memory import MemoryLimiter
from trainyard.core.limits.types import Amount, Limits, Passed, Quota, Standing, Subject

ONE = Amount(1)


async def test_200_hits_at_once_get_as_many_requests_as_the_bar(stand: Stand) -> None:
    subject = key(requests=60)
    answers = await asyncio.gather(*[stand.limiter.count((subject,)) for _ in range(200)], return_exceptions=True)
    assert sum(isinstance(each, Passed) for each in answers) == 60
    assert sum(isinstance(each, errors.LimitReached) for each in answers) == 140


async def test_hits_and_work_share_the_window(stand: Stand) -> None:
    subject = key(requests=2)
    passed = await stand.limiter.count((subject,))
    assert passed.requests == Standing(2, 1, stands.WINDOW_S)
    await stand.limiter.reserve((subject,), ONE)
    with pytest.raises(errors.LimitReached) as caught:
        await stand.limiter.count((subject,))
    assert caught.value.data == {"scope": "key:a", "dimension": "requests", "limit": 2, "remaining": 0}
    stand.clock.advance(stands.WINDOW_S)
    await stand.limiter.count((subject,))


async def test_a_hit_needs_a_free_place_and_takes_none(stand: Stand) -> None:
    subject = key(concurrency=1)
    for _ in range(3):
        await stand.limiter.count((subject,))
    running = await stand.limiter.reserve((subject,), ONE)
    with pytest.raises(errors.LimitReached) as caught:
        await stand.limiter.count((subject,))
    assert caught.value.data["dimension"] == "concurrency"
    await stand.limiter.settle(running, ONE)
    await stand.limiter.count((subject,))


async def test_a_hit_passes_used_up_tokens_and_quotas_and_tells_of_them(stand: Stand) -> None:
    subject = key(tokens=10, quota=Quota(tokens=10))
    await stand.work((subject,), 10)
    passed = await stand.limiter.count((subject,))
    assert passed.requests is None
    assert passed.tokens == Standing(10, 0, stands.WINDOW_S)


async def test_a_hit_that_is_taken_back_leaves_the_window(stand: Stand) -> None:
    subjects = key(requests=2), Subject("tenant:t", Limits(requests=2))
    await stand.limiter.count(subjects)
    stand.clock.advance(1)
    taken_back = await stand.limiter.count(subjects)
    await stand.limiter.uncount(taken_back)
    passed = await stand.limiter.count(subjects)
    assert passed.requests == Standing(2, 0, stands.WINDOW_S)
    stand.clock.advance(stands.WINDOW_S - 1)  # only the first one has left
    assert (await stand.limiter.count(subjects)).requests == Standing(2, 0, stands.WINDOW_S)


async def test_a_hit_that_is_taken_back_after_its_window_changes_no_other(stand: Stand) -> None:
    subject = key(requests=1)
    old = await stand.limiter.count((subject,))
    stand.clock.advance(stands.WINDOW_S)
    await stand.limiter.count((subject,))
    await stand.limiter.uncount(old)
    with pytest.raises(errors.LimitReached):
        await stand.limiter.count((subject,))


async def test_all_subjects_count_a_hit_or_none(stand: Stand) -> None:
    free, full = key("free", requests=1), key("full", requests=0)
    with pytest.raises(errors.InvalidRequest):
        await stand.limiter.count((free, full))
    await stand.limiter.count((free,))


async def test_a_hit_at_once_counts_as_any_hit_or_says_that_it_does_not(stand: Stand) -> None:
    """Where the counters are elsewhere it never does."""
    subjects = key(requests=3), Subject("tenant:t", Limits(requests=2))
    at_once = [stand.limiter.count_at_once(subjects) for _ in range(3)]
    counted = [each for each in at_once if each is not None]
    assert len(counted) == (2 if isinstance(stand.limiter, MemoryLimiter) else 0)
    assert [each.requests for each in counted] == [Standing(2, 1, stands.WINDOW_S), Standing(2, 0, stands.WINDOW_S)][
        : len(counted)
    ]
    for _ in range(2 - len(counted)):
        await stand.limiter.count(subjects)
    with pytest.raises(errors.LimitReached) as caught:
        await stand.limiter.count(subjects)
    assert caught.value.data["scope"] == "tenant:t"
    await stand.limiter.count(subjects[:1])  # what was refused has taken nothing of the other


async def test_a_caller_of_a_hit_who_leaves_takes_nothing(redis_url: str) -> None:
    limiter, subject = real_limiter(redis_url), key(requests=1)
    task = asyncio.create_task(limiter.count((subject,)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await limiter.count((subject,))
    await limiter.aclose()


async def test_a_hit_leaves_nothing_held_in_redis(redis_url: str) -> None:
    limiter = real_limiter(redis_url)
    await limiter.count((key(requests=5, concurrency=5),))
    async with Redis.from_url(redis_url) as client:
        assert await client.exists(*[f"trainyard:limits:{name}" for name in ("h", "x", "o:key:a")]) == 0
        assert await client.exists("trainyard:limits:r:key:a") == 1
    await limiter.aclose()
