"""What only the limiter in Redis has: leases, lost counters, a server that is away."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest
from redis import Redis

from tests.contract.core.limits import stand as stands
from tests.contract.core.limits.stand import START_S, Stand, ToldClock, key
from tests.services.redis import RedisServer
from trainyard.core import errors
from trainyard.core import redis as redis_factory
from trainyard.core.clock import SystemClock
from trainyard.core.limits import MemoryLimiter, RedisLimiter, open_limiter
from trainyard.core.limits.types import Amount, Quota, Reservation, Subject
from trainyard.core.settings import LimitSettings, RedisSettings, Settings

LEASE_S = 30.0
ONE = Amount(1)
QUOTA = key(quota=Quota(tokens=1000))


@pytest.fixture
async def two(redis_url: str) -> AsyncIterator[tuple[Stand, Stand]]:
    """Two processes over the same Redis, ledger and clock; leases of 30 s."""
    ours = stands.redis_stand(redis_url, lease_s=LEASE_S)
    theirs = Stand(stands.redis_limiter(redis_url, ours.books, ours.clock, LEASE_S), ours.clock, ours.books)
    yield ours, theirs
    await ours.limiter.aclose()
    await theirs.close()


async def used_and_held(stand: Stand, subject: Subject = QUOTA) -> tuple[object, object]:
    with pytest.raises(errors.QuotaExhausted) as caught:
        await stand.limiter.reserve((subject,), Amount(10**9))
    return caught.value.data["used"], caught.value.data["held"]


async def test_processes_share_every_bar(two: tuple[Stand, Stand]) -> None:
    ours, theirs = two
    subject = key(requests=3, tokens=100, concurrency=2)
    await ours.work((subject,), 10)
    held = await theirs.limiter.reserve((subject,), Amount(80))
    with pytest.raises(errors.LimitReached) as caught:
        await ours.limiter.reserve((subject,), Amount(11))
    assert caught.value.data["remaining"] == 10
    await theirs.limiter.refund(held)
    await ours.limiter.reserve((subject,), Amount(90))


async def test_what_a_dead_process_held_is_free_after_its_lease(two: tuple[Stand, Stand]) -> None:
    dead, alive = two
    subject = key(tokens=100, concurrency=1)
    await dead.limiter.reserve((subject,), Amount(100))
    alive.clock.advance(LEASE_S - 0.125)
    with pytest.raises(errors.LimitReached):
        await alive.limiter.reserve((subject,), ONE)
    alive.clock.advance(0.125)
    await alive.limiter.reserve((subject,), Amount(100))


@pytest.mark.parametrize("was_written", [True, False])
async def test_a_dead_process_is_charged_what_the_ledger_has(two: tuple[Stand, Stand], was_written: bool) -> None:
    """It died between the ledger and the limiter, or before the ledger."""
    dead, alive = two
    await alive.work((QUOTA,), 100)
    await dead.limiter.reserve((QUOTA,), Amount(50))
    dead.clock.advance(3)
    if was_written:
        dead.books.write(dead.clock.now(), ["key:a"], Amount(40))
    assert await used_and_held(alive) == (100, 50)
    alive.clock.advance(LEASE_S)
    assert await used_and_held(alive) == (140 if was_written else 100, 0)


async def test_the_amount_of_a_dead_process_stays_until_the_ledger_can_tell(two: tuple[Stand, Stand]) -> None:
    """Work that began before the death is still open, and could be in the ledger already: nobody may be asked yet."""
    dead, alive = two
    long = await alive.limiter.reserve((QUOTA,), Amount(10))
    await dead.limiter.reserve((QUOTA,), Amount(50))
    dead.clock.advance(3)
    dead.books.write(dead.clock.now(), ["key:a"], Amount(40))
    alive.clock.advance(LEASE_S - 5)
    assert isinstance(alive.limiter, RedisLimiter)
    await alive.limiter.renew()
    alive.clock.advance(5)
    assert await used_and_held(alive) == (0, 10 + 50)
    await alive.end(long, 5)
    assert await used_and_held(alive) == (45, 0)


async def test_a_process_that_was_only_slow_is_counted_once(two: tuple[Stand, Stand]) -> None:
    """Its lease ran out, others went on, and then it settles."""
    slow, other = two
    subject = key(tokens=10**9, quota=Quota(tokens=1000))
    late = await slow.limiter.reserve((subject,), Amount(50))
    other.clock.advance(LEASE_S + 1)
    await other.work((subject,), 100)
    assert await used_and_held(other, subject) == (100, 0)
    await slow.end(late, 40)
    assert await used_and_held(other, subject) == (140, 0)
    left = await other.limiter.reserve((subject,), Amount(0))
    assert left.tokens is not None
    assert left.tokens.remaining == 10**9 - 140


async def test_a_slow_process_that_renews_holds_again(two: tuple[Stand, Stand]) -> None:
    slow, other = two
    subject = key(concurrency=1)
    held = await slow.limiter.reserve((subject,), ONE)
    slow.clock.advance(LEASE_S + 1)
    await other.work((), 0)  # finds the lease that ran out
    assert isinstance(slow.limiter, RedisLimiter)
    await slow.limiter.renew()
    with pytest.raises(errors.LimitReached):
        await other.limiter.reserve((subject,), ONE)
    await slow.limiter.settle(held, ONE)
    await other.limiter.reserve((subject,), ONE)


async def test_leases_are_renewed_while_the_process_lives(redis_url: str) -> None:
    limiter = real_limiter(redis_url, lease_s=0.6)
    other = real_limiter(redis_url, lease_s=0.6)
    subject = key(concurrency=1)
    held = await limiter.reserve((subject,), ONE)
    await asyncio.sleep(1.5)
    with pytest.raises(errors.LimitReached):
        await other.reserve((subject,), ONE)
    await limiter.refund(held)
    await other.reserve((subject,), ONE)
    await limiter.aclose()
    await other.aclose()


def real_limiter(url: str, *, lease_s: float = LEASE_S, window_s: float = 1.0) -> RedisLimiter:
    """By the clocks of this machine and of Redis."""
    return RedisLimiter(
        redis_factory.connect(url), stands.Books().spent, SystemClock(), window_s=window_s, lease_s=lease_s
    )


async def test_lost_counters_close_the_limiter_for_one_window(two: tuple[Stand, Stand], redis_url: str) -> None:
    ours, theirs = two
    subject = key(requests=1)
    for stand in two:
        await stand.work((subject if stand is ours else key("b"),), 0)
    with Redis.from_url(redis_url) as client:
        client.flushdb()
    ours.clock.advance(0)  # which tells the time anew
    for stand in (ours, theirs):
        with pytest.raises(errors.Unavailable) as caught:
            await stand.limiter.reserve((subject,), ONE)
        assert caught.value.code == "limiter_unavailable"
        assert caught.value.retry_after_s == LEASE_S  # no more than that: `Retry-After` is in whole seconds
    ours.clock.advance(LEASE_S)
    await theirs.limiter.reserve((subject,), ONE)
    with pytest.raises(errors.LimitReached):
        await ours.limiter.reserve((subject,), ONE)


async def test_work_goes_on_over_a_loss_of_the_counters(two: tuple[Stand, Stand], redis_url: str) -> None:
    ours, theirs = two
    subject = key(concurrency=2, quota=Quota(tokens=1000))
    short, long = [await ours.limiter.reserve((subject,), Amount(100)) for _ in range(2)]
    with Redis.from_url(redis_url) as client:
        client.flushdb()
    ours.clock.advance(1)
    await ours.end(short, 30)
    assert isinstance(ours.limiter, RedisLimiter)
    await ours.limiter.renew()
    with pytest.raises(errors.Unavailable):
        await ours.limiter.reserve((subject,), ONE)
    ours.clock.advance(LEASE_S - 1)
    await ours.limiter.renew()
    ours.clock.advance(1)
    assert await used_and_held(theirs, subject) == (30, 100)
    await ours.end(long, 60)
    assert await used_and_held(theirs, subject) == (90, 0)


async def test_a_new_process_on_an_empty_redis_is_open_at_once(two: tuple[Stand, Stand]) -> None:
    await two[0].work((key(requests=1),), 0)


async def test_scripts_that_redis_forgot_are_loaded_again(redis_url: str) -> None:
    limiter = real_limiter(redis_url)
    with Redis.from_url(redis_url) as client:
        for _ in range(2):
            await limiter.settle(await limiter.reserve((key(requests=9),), ONE), ONE)
            client.script_flush()
    await limiter.aclose()


async def test_a_caller_who_leaves_takes_nothing(redis_url: str) -> None:
    limiter, subject = real_limiter(redis_url), key(requests=2, concurrency=1)
    task = asyncio.create_task(limiter.reserve((subject,), ONE))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    reservation = await limiter.reserve((subject,), ONE)
    assert reservation.requests is not None
    assert reservation.requests.remaining == 1
    await limiter.aclose()


async def test_without_redis_nothing_is_let_in_and_it_recovers(own_redis: RedisServer) -> None:
    limiter, subject = real_limiter(own_redis.url(), lease_s=0.9), key(requests=100, concurrency=1)
    held = await limiter.reserve((subject,), ONE)
    own_redis.stop()
    for call in (limiter.reserve((subject,), ONE), limiter.ping()):
        began_s = time.monotonic()
        with pytest.raises(errors.Unavailable) as caught:
            await call
        assert caught.value.code == "limiter_unavailable"
        assert caught.value.retry_after_s == 1
        assert time.monotonic() - began_s < 3
    await limiter.settle(held, ONE)  # the work is done; it is told later
    own_redis.start()
    await limiter.ping()
    async with asyncio.timeout(10):
        await until_let_in(limiter, subject)  # after one window, for its counters are lost
    await limiter.aclose()


async def test_a_redis_that_hangs_is_away_and_what_it_missed_is_told_later(own_redis: RedisServer) -> None:
    limiter, subject = real_limiter(own_redis.url(), window_s=60), key(tokens=100, concurrency=3)
    finished, broken = [await limiter.reserve((subject,), Amount(30)) for _ in range(2)]
    own_redis.pause()
    began_s = time.monotonic()
    answers = await asyncio.gather(
        limiter.reserve((subject,), Amount(30)),
        limiter.settle(finished, Amount(20)),
        limiter.refund(broken),
        return_exceptions=True,
    )
    assert time.monotonic() - began_s < 4
    assert isinstance(answers[0], errors.Unavailable)
    assert list(answers[1:]) == [None, None]
    own_redis.resume()
    async with asyncio.timeout(15):
        reservation = await until_let_in(limiter, subject, tokens=80)
    assert reservation.tokens is not None
    assert reservation.tokens.remaining == 0
    await limiter.aclose()


async def test_a_full_redis_lets_nobody_in(own_redis: RedisServer) -> None:
    limiter = real_limiter(own_redis.url())
    held = await limiter.reserve((key(requests=9, concurrency=1),), ONE)
    with Redis.from_url(own_redis.url()) as client:
        client.config_set("maxmemory", "1")
        with pytest.raises(errors.Unavailable):
            await limiter.reserve((key(requests=9, concurrency=1),), ONE)
        await limiter.settle(held, ONE)
        client.config_set("maxmemory", "0")
    async with asyncio.timeout(10):
        await until_let_in(limiter, key(requests=9, concurrency=1))
    await limiter.aclose()


async def until_let_in(limiter: RedisLimiter, subject: Subject, tokens: int = 1) -> Reservation:
    while True:
        try:
            return await limiter.reserve((subject,), Amount(tokens))
        except (errors.Unavailable, errors.LimitReached):
            await asyncio.sleep(0.05)


async def test_the_settings_choose_the_limiter(redis_url: str) -> None:
    books, clock = stands.Books(), SystemClock()
    alone = open_limiter(Settings(limits=LimitSettings(window_s=5)), books.spent, clock)
    shared = open_limiter(Settings(redis=RedisSettings(url=redis_url)), books.spent, clock)
    assert isinstance(alone, MemoryLimiter)
    assert isinstance(shared, RedisLimiter)
    for limiter in (alone, shared):
        await limiter.settle(await limiter.reserve((key(requests=1),), ONE), ONE)
        with pytest.raises(errors.LimitReached):
            await limiter.reserve((key(requests=1),), ONE)
        await limiter.aclose()


@pytest.mark.parametrize("url", ["localhost:6379", "http://localhost", ""])
def test_a_url_of_something_else_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        redis_factory.connect(url)
    assert caught.value.param == "redis.url"
    assert "redis://host:6379/0" in caught.value.message


def test_without_the_library_the_error_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "from trainyard.core import errors, redis\n"
        "try: redis.connect('redis://127.0.0.1:1/0')\n"
        "except errors.ConfigError as error: print(error.message)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'trainyard[redis]'" in told.stdout


async def test_a_told_clock_tells_redis(redis_url: str) -> None:
    clock = ToldClock(redis_url, START_S)
    clock.advance(2.5)
    with Redis.from_url(redis_url) as client:
        assert client.get("now") == b"3500000"
    clock.close()
