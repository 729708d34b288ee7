"""Postgres goes, dies, freezes under load: what runs ends, what is new is refused in time, nothing is charged twice."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass

import httpx
import pytest

from tests.chaos.failures import callers, table, yard
from tests.chaos.failures.callers import Caller, Told
from tests.chaos.failures.table import Row
from tests.services.postgres import OwnPostgres, installed
from trainyard import Client
from trainyard.loadtest.mock import Latency, MockServer, in_thread
from trainyard.sdk.local_server import LocalServer

pytestmark = pytest.mark.timeout(120)
REFUSED_WITHIN_S = 15


@dataclass
class Place:
    """A server over a Postgres that may fail."""

    server: LocalServer
    postgres: OwnPostgres
    database_url: str


@pytest.fixture(scope="module")
def mock() -> Iterator[MockServer]:
    with in_thread(MockServer(latency=Latency(answer_tokens=20, token_s=0.1))) as running:
        yield running


@pytest.fixture(scope="module")
def place(mock: MockServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """`slow` takes 2 s for an answer."""
    directory = tmp_path_factory.mktemp("database")
    catalog = directory / "models.yaml"
    catalog.write_text(
        "models:\n"
        "  - {name: echo, backend: fake}\n"
        f"  - {{name: slow, backend: openai, base_url: '{mock.url}/v1', retries: 0}}\n"
    )
    with installed() as postgres:
        url = postgres.create_database()
        environment = {"TRAINYARD_DATABASE__URL": url, "TRAINYARD_MODELS_FILE": str(catalog)}
        with LocalServer(directory / "data", environment=environment) as server:
            yield Place(server, postgres, url)


@pytest.fixture
async def bob(place: Place) -> AsyncIterator[Caller]:
    with Client(place.server.key, place.server.url) as admin:
        made = admin.create_key("bob", scopes=["generate"], limits={"concurrency": 500}, quota={"tokens": 10**9})
    async with callers.caller(place.server.url, made.key) as one:
        yield one


Outage = Callable[[OwnPostgres], AbstractContextManager[None]]


@contextmanager
def stopped(postgres: OwnPostgres) -> Iterator[None]:
    postgres.stop(signal.SIGINT)
    try:
        yield
    finally:
        postgres.start()


@contextmanager
def killed(postgres: OwnPostgres) -> Iterator[None]:
    postgres.stop(signal.SIGQUIT)
    try:
        yield
    finally:
        postgres.start()


def own_entries(place: Place, told: list[Told]) -> list[callers.Entry]:
    known = {one.request_id for one in told}
    return [entry for entry in callers.ledger(place.database_url) if entry.request_id in known]


def is_caught_up(place: Place) -> bool:
    waiting = ("trainyard_ledger_spooled_entries", "trainyard_ledger_waiting", "trainyard_open_reservations")
    return callers.readyz(place.server.url) == (200, set()) and not any(
        callers.sample(place.server.url, name) for name in waiting
    )


async def outage(row: Row, place: Place, bob: Caller, fails: Outage) -> None:
    url = place.server.url
    own: list[Told] = []
    async with callers.crowd(bob, 4) as told, AsyncExitStack() as undo:
        streams = [asyncio.create_task(bob.ask(model="slow", stream=number % 2 == 0)) for number in range(10)]
        await asyncio.sleep(0.5)
        undo.push_async_callback(asyncio.to_thread, (away := ExitStack()).close)
        await asyncio.to_thread(away.enter_context, fails(place.postgres))
        await asyncio.sleep(1)  # keys are compared with the database twice a second
        keys = [f"{fails.__name__} {number}" for number in range(20)]
        refused = await asyncio.gather(*(bob.ask(stream="0" in key, idempotency_key=key) for key in keys))
        for one in refused:
            assert (one.status, one.code) == (row.statuses[0], row.codes[0])
            assert one.took_s < REFUSED_WITHIN_S
            assert int(one.headers["retry-after"]) >= 1
        assert await asyncio.to_thread(callers.readyz, url) == (row.statuses[1], {"database"})
        assert (await asyncio.to_thread(httpx.get, f"{url}/healthz")).status_code == 200
        own += await asyncio.gather(*streams)
        assert all(one.is_whole for one in own)  # they were paid for while the database was away
        await asyncio.to_thread(away.close)
        await asyncio.to_thread(yard.until, lambda: callers.readyz(url) == (200, set()), 15)
        assert (await bob.ask()).status == 200
    await asyncio.to_thread(yard.until, lambda: is_caught_up(place), 10)
    assert {one.code for one in told if one.status != 200} <= set(row.codes)
    callers.assert_exact([*told, *own], own_entries(place, [*told, *own]))


@table.shows("Postgres stopped or killed")
@pytest.mark.parametrize("fails", [stopped, killed])
async def test_postgres_gone(row: Row, place: Place, bob: Caller, fails: Outage) -> None:
    await outage(row, place, bob, fails)


@table.shows("Postgres frozen")
async def test_postgres_frozen(row: Row, place: Place, bob: Caller) -> None:
    await outage(row, place, bob, OwnPostgres.frozen)


@table.shows("whole server killed while the database is away")
async def test_what_is_only_in_the_spool_survives_the_server(row: Row, place: Place, bob: Caller) -> None:
    server = place.server
    asked = [asyncio.create_task(bob.ask(model="slow", stream=number % 2 == 0)) for number in range(10)]
    await asyncio.sleep(0.5)
    await asyncio.to_thread(place.postgres.stop, signal.SIGQUIT)
    told = await asyncio.gather(*asked)
    assert all(one.is_whole for one in told)
    yard.kill_pid(server.pid)
    await asyncio.to_thread(yard.until, lambda: not yard.is_alive(server.pid), 10)
    await asyncio.to_thread(place.postgres.start)
    assert own_entries(place, told) == []
    server.start()  # by this thread, whose end would end it
    await asyncio.to_thread(yard.until, lambda: is_caught_up(place), 10)
    callers.assert_exact(told, own_entries(place, told))
    assert list(server.data_dir.glob("ledger-*")) == []
