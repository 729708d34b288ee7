"""The limiter's Redis goes, freezes, forgets: requests are refused at once, and nothing leaks."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.chaos.failures import callers, table, yard
from tests.chaos.failures.callers import Caller, Entry, Told
from tests.chaos.failures.table import Row
from tests.services.redis import RedisServer, served
from trainyard import Client
from trainyard.core.limits.redis import LEASE_S
from trainyard.loadtest.mock import Latency, MockServer, in_thread
from trainyard.sdk.local_server import LocalServer

pytestmark = pytest.mark.timeout(120)
PLACES = 6
WINDOW_S = 2
FIVE = "a b c d e"
QUOTA = 200


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with served() as running:
        yield running


@pytest.fixture(scope="module")
def mock() -> Iterator[MockServer]:
    with in_thread(MockServer(latency=Latency(answer_tokens=30, token_s=0.05))) as running:
        yield running


@pytest.fixture(scope="module")
def server(redis: RedisServer, mock: MockServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """Two processes that count in a Redis which may fail; `slow` takes 1.5 s for an answer."""
    directory = tmp_path_factory.mktemp("counters")
    catalog = directory / "models.yaml"
    catalog.write_text(
        "models:\n"
        "  - {name: echo, backend: fake}\n"
        f"  - {{name: slow, backend: openai, base_url: '{mock.url}/v1', retries: 0}}\n"
    )
    environment = {
        "TRAINYARD_REDIS__URL": redis.url(),
        "TRAINYARD_MODELS_FILE": str(catalog),
        "TRAINYARD_CACHE__SHARED": "redis",
        "TRAINYARD_LIMITS__WINDOW_S": str(WINDOW_S),
    }
    with LocalServer(directory / "data", arguments=("--workers", "2"), environment=environment) as running:
        yield running


@pytest.fixture
async def anna(server: LocalServer) -> AsyncIterator[Caller]:
    """A caller who never reaches her bar."""
    async with new_caller(server, limits={"requests": 1_000_000}) as one:
        yield one


@pytest.fixture
async def bob(server: LocalServer) -> AsyncIterator[Caller]:
    """A caller with `PLACES` places."""
    async with new_caller(server, limits={"concurrency": PLACES}) as one:
        yield one


@pytest.fixture
async def eve(server: LocalServer) -> AsyncIterator[Caller]:
    """A caller with a monthly quota."""
    async with new_caller(server, quota={"tokens": QUOTA}) as one:
        yield one


@asynccontextmanager
async def new_caller(
    server: LocalServer,
    limits: dict[str, int | None] | None = None,
    quota: dict[str, int | float | str | None] | None = None,
) -> AsyncIterator[Caller]:
    with Client(server.key, server.url) as admin:
        made = admin.create_key("bob", scopes=["generate"], limits=limits, quota=quota)
    async with callers.caller(server.url, made.key) as one:
        yield one


async def until_let_in(bob: Caller, timeout_s: float = 20) -> None:
    ends_s = time.monotonic() + timeout_s
    while (await bob.ask()).status != 200:
        assert time.monotonic() < ends_s, "nobody is let in again"
        await asyncio.sleep(0.1)


async def until_all_places_are_free(bob: Caller, timeout_s: float = 10) -> None:
    """Take every place and one more at the same moment, until all are let in but that one."""
    ends_s = time.monotonic() + timeout_s
    while True:
        told = await asyncio.gather(*(bob.ask(model="slow", stream=True, max_tokens=4) for _ in range(PLACES + 1)))
        statuses = sorted(one.status for one in told)
        if statuses == [200] * PLACES + [429]:
            return
        assert statuses.count(200) <= PLACES
        assert time.monotonic() < ends_s, statuses


async def all_refused_fast(bob: Caller, row: Row, bound_s: float) -> None:
    """Every request of a burst gets the row's status and code in time."""
    told = await asyncio.gather(*(bob.ask(stream=number % 2 == 0) for number in range(20)))
    assert {(one.status, one.code) for one in told} == {(row.statuses[0], row.codes[0])}
    assert max(one.took_s for one in told) < bound_s
    assert all(int(one.headers["retry-after"]) >= 1 for one in told)


@table.shows("Redis frozen")
async def test_redis_frozen(row: Row, redis: RedisServer, server: LocalServer, anna: Caller, bob: Caller) -> None:
    own: list[Told] = []
    async with callers.crowd(anna, 3) as told:
        streams = [asyncio.create_task(bob.ask(model="slow", stream=True)) for _ in range(2)]
        await asyncio.sleep(0.5)
        await asyncio.to_thread(redis.pause)
        await all_refused_fast(bob, row, 5)
        assert await asyncio.to_thread(callers.readyz, server.url) == (row.statuses[0], {"redis"})
        for stream in streams:  # what runs is not disturbed, and its charge does not wait for Redis to be back
            own.append(await stream)
            assert own[-1].is_whole
        redis.resume()
        await until_let_in(bob)
    assert await asyncio.to_thread(callers.readyz, server.url) == (200, set())
    await asyncio.to_thread(yard.until, lambda: callers.sample(server.url, "trainyard_open_reservations") == 0, 5)
    await until_all_places_are_free(bob)
    assert {one.code for one in told if one.status != 200} == set(row.codes)
    assert_ledger(server, [*told, *own])


def entries_of(server: LocalServer, told: Sequence[Told]) -> list[Entry]:
    known = {one.request_id for one in told}
    entries = callers.ledger(f"sqlite:///{server.data_dir / 'trainyard.db'}")
    return [entry for entry in entries if entry.request_id in known]


def assert_ledger(server: LocalServer, told: list[Told]) -> None:
    """What was told is in the ledger; other requests of the test are in it too."""
    callers.assert_exact(told, entries_of(server, told))
    assert sum(one.usage is not None for one in told) > 20


@table.shows("one of several HTTP processes killed")
async def test_one_of_two_processes_is_killed(row: Row, server: LocalServer, anna: Caller, bob: Caller) -> None:
    def sent(number: int) -> dict[str, Any]:
        body = {"prompt": f"once {number}", "model": "slow", "max_tokens": 8, "stream": number % 2 == 0}
        return {**body, "idempotency_key": f"key-{number}"}

    process = await asyncio.to_thread(yard.child, server, "http:1")
    holding = [asyncio.create_task(bob.ask(model="slow", stream=True)) for _ in range(PLACES)]
    first = [asyncio.create_task(anna.ask(**sent(number))) for number in range(100)]
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    yard.kill_pid(process.pid or 0)
    told = list(await asyncio.gather(*first))
    assert {one.is_whole for one in told} == {True, False}  # the other process goes on
    assert (await anna.ask()).is_whole
    places = asyncio.create_task(until_all_places_are_free(bob, LEASE_S + 10))
    again = await asyncio.gather(*(anna.ask(**sent(number)) for number in range(100)))
    assert {(one.status, one.is_whole) for one in again} == {(200, True)}
    entries = entries_of(server, [*told, *again])
    assert len(entries) == len(told)
    for before, after in zip(told, again, strict=True):
        assert before.usage in (None, after.usage)
        pair = {before.request_id, after.request_id}
        [entry] = [entry for entry in entries if entry.request_id in pair]
        assert entry.usage == after.usage
        assert before.usage is None or entry.request_id == before.request_id
    await places
    await asyncio.gather(*holding)


@table.shows("Redis gone, its counters too")
async def test_redis_gone(
    row: Row, redis: RedisServer, server: LocalServer, anna: Caller, bob: Caller, eve: Caller
) -> None:
    eves = [await eve.ask(FIVE, max_tokens=5) for _ in range(QUOTA // 20)]
    own = list(eves)
    async with callers.crowd(anna, 3) as told:
        streams = [asyncio.create_task(bob.ask(model="slow", stream=True)) for _ in range(2)]
        await asyncio.sleep(0.5)
        await asyncio.to_thread(redis.stop)
        await all_refused_fast(bob, row, 2)
        assert await asyncio.to_thread(callers.readyz, server.url) == (row.statuses[0], {"redis"})
        own += await asyncio.gather(*streams)
        assert all(one.is_whole for one in own)
        await asyncio.to_thread(redis.start)  # empty: what ran in the last window is forgotten
        refused = await bob.ask()
        assert (refused.status, refused.code) == (row.statuses[0], row.codes[0])
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        await until_let_in(bob, 40)
    assert await asyncio.to_thread(callers.readyz, server.url) == (200, set())
    await until_all_places_are_free(bob)
    assert_ledger(server, [*told, *own])
    left = QUOTA // 10 - len(eves)
    more = [await eve.ask(FIVE, max_tokens=5) for _ in range(QUOTA // 10)]
    assert [one.status for one in more] == [200] * left + [402] * (QUOTA // 10 - left)
