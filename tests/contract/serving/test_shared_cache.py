"""Caches that several processes share: SQLite, Postgres and Redis keep the same promises."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from redis.asyncio import Redis
from sqlalchemy import func, select

from tests.services.redis import RedisServer
from trainyard.core import errors, redis
from trainyard.core.clock import FakeClock, SystemClock
from trainyard.core.db import Database
from trainyard.serving.cache.base import Kept, SharedCache
from trainyard.serving.cache.redis import ABSENT_S, PREFIX, RedisCache
from trainyard.serving.store import DatabaseCache, cache

TTL_S = 1000.0
MAX_BYTES = 1000


class Store:
    """One kind of cache, and what lies in it."""

    def __init__(self, make: Callable[[int], SharedCache], held: Callable[[], Awaitable[tuple[int, int]]]) -> None:
        self._make, self._held = make, held
        self._opened: list[SharedCache] = []

    async def open(self, max_bytes: int = MAX_BYTES) -> SharedCache:
        """Open it as one process."""
        made = self._make(max_bytes)
        self._opened.append(made)
        await made.tend()
        return made

    async def held(self) -> tuple[int, int]:
        """Count answers and their bytes from outside."""
        return await self._held()

    async def aclose(self) -> None:
        for one in self._opened:
            await one.aclose()


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Database]:
    opened = Database(postgres_url)
    opened.migrate()
    yield opened
    opened.close()


@pytest.fixture(params=["database", "postgres", "redis_url"])
async def store(request: pytest.FixtureRequest, clock: FakeClock) -> AsyncIterator[Store]:
    found = request.getfixturevalue(request.param)
    made = redis_store(found, clock) if isinstance(found, str) else database_store(found, clock)
    yield made
    await made.aclose()


def database_store(database: Database, clock: FakeClock) -> Store:
    async def held() -> tuple[int, int]:
        with database.read() as connection:
            found = connection.execute(select(func.count(), func.coalesce(func.sum(cache.c.bytes), 0))).one()
        return int(found[0]), int(found[1])

    return Store(lambda most: DatabaseCache(database, clock, ttl_s=TTL_S, max_bytes=most), held)


def redis_store(url: str, clock: FakeClock) -> Store:
    async def held() -> tuple[int, int]:
        async with Redis.from_url(url) as client:
            keys = [key async for key in client.scan_iter(f"{PREFIX.replace('[', '')}*") if len(key) > 60]
            return len(keys), sum([await client.strlen(key) for key in keys])

    return Store(lambda most: RedisCache(redis.connect(url), clock, ttl_s=TTL_S, max_bytes=most), held)


def kept(number: int, clock: FakeClock, size: int = 100) -> Kept:
    return Kept(number.to_bytes(32), "default", bytes([number]) * size, clock.now())


def key(number: int) -> bytes:
    return number.to_bytes(32)


async def test_what_is_put_is_found_by_every_process(store: Store, clock: FakeClock) -> None:
    one, other = await store.open(), await store.open()
    await one.put([kept(1, clock), kept(2, clock)])
    assert await one.get(key(1)) == bytes([1]) * 100
    await other.tend()
    assert other.may_hold(key(2))
    assert await other.get(key(2)) == bytes([2]) * 100
    assert await other.get(key(3)) is None


async def test_a_new_process_finds_what_earlier_ones_left(store: Store, clock: FakeClock) -> None:
    await (await store.open()).put([kept(1, clock)])
    clock.advance(60)
    later = await store.open()
    assert later.may_hold(key(1))
    assert await later.get(key(1)) == bytes([1]) * 100


async def test_a_newer_answer_replaces_the_older_one(store: Store, clock: FakeClock) -> None:
    one = await store.open()
    await one.put([kept(1, clock, 100)])
    clock.advance(1)
    await one.put([kept(1, clock, 50)])
    assert await one.get(key(1)) == bytes([1]) * 50
    assert await store.held() == (1, 50)


async def test_the_oldest_go_when_there_are_too_many_bytes(store: Store, clock: FakeClock) -> None:
    one = await store.open(MAX_BYTES)
    for number in range(1, 16):
        await one.put([kept(number, clock)])
        clock.advance(1)
    assert await store.held() == (10, 1000)
    assert [number for number in range(1, 16) if await one.get(key(number)) is not None] == list(range(6, 16))


async def test_an_answer_that_is_larger_than_the_cache_is_not_kept(store: Store, clock: FakeClock) -> None:
    one = await store.open()
    await one.put([kept(1, clock, 500), kept(2, clock, MAX_BYTES + 1)])
    assert await one.get(key(2)) is None
    assert await store.held() == (1, 500)


async def test_answers_expire_and_go(store: Store, clock: FakeClock) -> None:
    one = await store.open()
    await one.put([Kept(key(1), "default", b"old", clock.now() - TTL_S + 0.001)])
    clock.advance(5)
    await asyncio.sleep(0.01)  # Redis has a clock of its own
    assert await one.get(key(1)) is None
    await one.tend()
    assert await store.held() == (0, 0)
    await one.put([kept(number, clock, 1000) for number in (2,)])  # the bytes of what went are free again
    assert await one.get(key(2)) is not None


async def test_two_processes_bound_one_cache(store: Store, clock: FakeClock) -> None:
    one, other = await store.open(), await store.open()
    for number in range(1, 21):
        await (one, other)[number % 2].put([kept(number, clock)])
        clock.advance(1)
        for process in (one, other):
            await process.tend()
    count, size = await store.held()
    assert (count, size) == (10, 1000)


async def test_a_miss_that_is_known_asks_nothing(store: Store, clock: FakeClock) -> None:
    one = await store.open()
    await one.get(key(9))
    assert not one.may_hold(key(9))
    await one.put([kept(9, clock)])
    assert one.may_hold(key(9))


async def test_a_row_that_another_process_removed_is_a_miss(store: Store, clock: FakeClock) -> None:
    one, other = await store.open(), await store.open(100)
    await one.put([kept(1, clock)])
    clock.advance(1)
    await other.tend()
    await other.put([kept(2, clock)])
    assert await one.get(key(1)) is None


async def test_redis_asks_again_after_a_moment(redis_url: str, clock: FakeClock) -> None:
    one = RedisCache(redis.connect(redis_url), clock, ttl_s=TTL_S, max_bytes=MAX_BYTES)
    await one.get(key(1))
    clock.advance(ABSENT_S)
    assert one.may_hold(key(1))
    await one.aclose()


async def test_a_redis_that_is_gone_is_unavailable(own_redis: RedisServer) -> None:
    one = RedisCache(redis.connect(own_redis.url()), SystemClock(), ttl_s=TTL_S, max_bytes=MAX_BYTES)
    own_redis.stop()
    for act in (one.get(key(1)), one.put([]), one.tend()):
        with pytest.raises(errors.Unavailable) as caught:
            await act
        assert caught.value.code == "cache_unavailable"
    await one.aclose()


async def test_rows_are_bounded_too(database: Database, clock: FakeClock) -> None:
    one = DatabaseCache(database, clock, ttl_s=TTL_S, max_bytes=1 << 30, max_rows=3)
    await one.tend()
    for number in range(1, 6):
        await one.put([kept(number, clock)])
        clock.advance(1)
    assert [number for number in range(1, 6) if await one.get(key(number)) is not None] == [3, 4, 5]
    assert one.bytes_held == 300


async def test_before_all_keys_are_read_everything_is_asked_for(database: Database, clock: FakeClock) -> None:
    one = DatabaseCache(database, clock, ttl_s=TTL_S, max_bytes=MAX_BYTES)
    assert one.may_hold(key(1))
    await one.tend()
    assert not one.may_hold(key(1))
