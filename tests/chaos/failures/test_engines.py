"""An engine behind `/v1` that is killed, or has more to do than it may queue."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import trainyard.engine
from tests.chaos.failures import callers, table, yard
from tests.chaos.failures.callers import Caller, Entry, Told
from tests.chaos.failures.table import Row
from trainyard import Client
from trainyard.sdk.local_server import LocalServer

pytestmark = pytest.mark.timeout(120)
POCKET = Path(trainyard.engine.__file__).parent / "pocket"
QUEUE = 4
LONG: dict[str, Any] = {"max_tokens": 900, "temperature": 1.0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """Two engines of one model, with room for one stream at a time and a short queue."""
    directory = tmp_path_factory.mktemp("engines")
    (directory / "models.yaml").write_text(
        "models:\n"
        f"  - {{name: test/first, path: {POCKET}, load: eager}}\n"
        f"  - {{name: test/second, path: {POCKET}, load: eager}}\n"
    )
    environment = {
        "TRAINYARD_MODELS_FILE": str(directory / "models.yaml"),
        "TRAINYARD_ENGINE__KV_MAX_BYTES": str(2 << 20),
        "TRAINYARD_ENGINE__MAX_QUEUE": str(QUEUE),
    }
    with LocalServer(directory / "data", environment=environment) as running:
        yield running


@pytest.fixture
async def bob(server: LocalServer) -> AsyncIterator[Caller]:
    with Client(server.key, server.url) as admin:
        made = admin.create_key("bob", scopes=["generate"], limits={"concurrency": 100})
    async with callers.caller(server.url, made.key) as one:
        yield one


def entries_of(server: LocalServer, told: list[Told]) -> list[Entry]:
    known = {one.request_id for one in told}
    entries = callers.ledger(f"sqlite:///{server.data_dir / 'trainyard.db'}")
    return [entry for entry in entries if entry.request_id in known]


@table.shows("engine killed during streams of `/v1`")
async def test_an_engine_is_killed_under_streams(row: Row, server: LocalServer, bob: Caller) -> None:
    engine = await asyncio.to_thread(yard.child, server, "engine:test/first")
    first = [asyncio.create_task(bob.ask(f"a {n}", model="test/first", stream=True, **LONG)) for n in range(3)]
    whole = asyncio.create_task(bob.ask("a whole one", model="test/first", **LONG))
    while bob.begun == 0:  # noqa: ASYNC110 - counted by those tasks
        await asyncio.sleep(0)
    yard.kill_pid(engine.pid or 0)
    broken = await asyncio.gather(*first)
    other = await bob.ask("b", model="test/second", stream=True, max_tokens=4)
    assert other.is_whole
    told = [*broken, other, await whole]
    cut = [one for one in told if not one.is_whole]
    assert any(one.pieces for one in cut)
    assert {one.code for one in cut} == set(row.codes)
    assert {one.status for one in cut} <= {200, row.statuses[0]}
    entries = entries_of(server, told)
    callers.assert_exact(told, entries)
    charged = {entry.request_id: entry.outcome for entry in entries}
    assert {charged.get(one.request_id) for one in cut if one.pieces} == {"failed"}
    assert callers.sample(server.url, "trainyard_open_reservations") == 0
    await asyncio.to_thread(yard.until, lambda: yard.is_back(server, "engine:test/first"), 30)
    again = await asyncio.gather(*(bob.ask(f"c {n}", model="test/first", stream=True, max_tokens=4) for n in range(4)))
    assert all(one.is_whole for one in again)


@table.shows("more streams than an engine may queue")
async def test_an_engine_that_is_overloaded(row: Row, server: LocalServer, bob: Caller) -> None:
    many = [f"{n} " + "word " * 40 for n in range(40)]
    told = await asyncio.gather(
        *(bob.ask(text, model="test/second", stream=n % 2 == 0, **LONG) for n, text in enumerate(many))
    )
    refused = [one for one in told if not one.is_whole]
    assert refused
    assert {(one.status, one.code) for one in refused} == {(row.statuses[0], row.codes[0])}
    assert all(int(one.headers["retry-after"]) >= 1 for one in refused)
    assert all(one.is_whole for one in told if one not in refused)
    callers.assert_exact(told, entries_of(server, list(told)))
    assert (await bob.ask("d", model="test/second", max_tokens=4)).status == 200
    assert callers.sample(server.url, "trainyard_open_reservations") == 0
