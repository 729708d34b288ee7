"""`kill -9` while a hundred streams are open: what was told is in the ledger once, and nobody's place is lost."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

import trainyard.engine
from tests.chaos.failures import callers, table, yard
from tests.chaos.failures.callers import Caller, Entry, Told
from tests.chaos.failures.table import Row
from trainyard import Client
from trainyard.loadtest.mock import Latency, MockServer, in_thread
from trainyard.sdk.local_server import LocalServer

pytestmark = pytest.mark.timeout(120)
POCKET = Path(trainyard.engine.__file__).parent / "pocket"
STREAMS = 100
FAR = 60
ENGINE = "engine:test/pocket"
LONG: dict[str, Any] = {"model": "test/pocket", "max_tokens": 600, "seed": 1, "temperature": 1.0}


@pytest.fixture(scope="module")
def mock() -> Iterator[MockServer]:
    with in_thread(MockServer(latency=Latency(answer_tokens=40, token_s=0.1))) as running:
        yield running


@pytest.fixture(scope="module")
def server(mock: MockServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """`far` takes 4 s for an answer of an upstream that counts its requests."""
    directory = tmp_path_factory.mktemp("killed")
    (directory / "models.yaml").write_text(
        "models:\n"
        "  - {name: echo, backend: fake}\n"
        f"  - {{name: test/pocket, path: {POCKET}, load: eager}}\n"
        f"  - {{name: far, backend: openai, base_url: '{mock.url}/v1', retries: 0}}\n"
    )
    environment = {"TRAINYARD_MODELS_FILE": str(directory / "models.yaml")}
    with LocalServer(directory / "data", environment=environment) as running:
        yield running


@pytest.fixture
async def bob(server: LocalServer) -> AsyncIterator[Caller]:
    """A caller with as many places as streams."""
    with Client(server.key, server.url) as admin:
        made = admin.create_key(
            "bob", scopes=["generate"], limits={"concurrency": STREAMS}, quota={"tokens": 100_000_000}
        )
    async with callers.caller(server.url, made.key) as one:
        yield one


def own_entries(server: LocalServer, told: list[Told]) -> list[Entry]:
    known = {one.request_id for one in told}
    entries = callers.ledger(f"sqlite:///{server.data_dir / 'trainyard.db'}")
    return [entry for entry in entries if entry.request_id in known]


async def until(is_true: Callable[[], bool]) -> None:
    await asyncio.to_thread(yard.until, is_true, 20)


def active_streams(server: LocalServer) -> float:
    """Streams in the engine; more than were ever begun while the engine is not connected."""
    if callers.sample(server.url, "trainyard_engine_up") < 1:
        return STREAMS + 1
    active, queued = "trainyard_engine_streams_active", "trainyard_engine_streams_queued"
    return callers.sample(server.url, active) + callers.sample(server.url, queued)


async def hundred_streams(bob: Caller, kill: Callable[[], object]) -> list[Told]:
    """Begin streams of an upstream and of the engine, and short ones that end; kill something in the middle of them."""
    far = [asyncio.create_task(bob.ask(f"far {number}", model="far", stream=True)) for number in range(FAR)]
    await begun(bob, bob.begun + FAR, far)
    told = list(await asyncio.gather(*(bob.ask(f"word {number}", stream=number % 2 == 0) for number in range(10))))
    wanted = bob.begun + 3
    near = [asyncio.create_task(bob.ask(f"Say {number}", stream=True, **LONG)) for number in range(STREAMS - FAR - 10)]
    await begun(bob, wanted, near)
    short = [asyncio.create_task(bob.ask(f"more {number}", stream=number % 2 == 0)) for number in range(10)]
    await asyncio.sleep(0.005)
    await asyncio.to_thread(kill)
    cut = await asyncio.gather(*far)
    assert all(one.pieces and not one.is_whole for one in cut)
    from_engine = await asyncio.gather(*near)
    assert any(one.pieces and not one.is_whole for one in from_engine)
    return [*told, *cut, *from_engine, *await asyncio.gather(*short)]


async def begun(bob: Caller, count: int, streams: Sequence[asyncio.Task[Told]]) -> None:
    while bob.begun < count:
        assert not all(one.done() for one in streams), [one.result() for one in streams]
        await asyncio.sleep(0.002)


async def assert_usable(server: LocalServer, bob: Caller) -> None:
    """Every place can be taken again, at once."""
    again = await asyncio.gather(
        *(bob.ask(f"again {number}", stream=True, model="far", max_tokens=8) for number in range(STREAMS))
    )
    assert {(one.status, one.is_whole) for one in again} == {(200, True)}
    callers.assert_exact(again, own_entries(server, again))
    assert callers.sample(server.url, "trainyard_open_reservations") == 0


@table.shows("`models.yaml` wrong at a reload")
async def test_a_catalog_at_fault_changes_nothing(row: Row, server: LocalServer, bob: Caller) -> None:
    file = server.data_dir.parent / "models.yaml"
    good = file.read_text()
    stream = asyncio.create_task(bob.ask("a b", model="far", stream=True))
    for bad in ("models: [{name: other, backend: vllm}]", "models: [", "models: {}"):
        before = server.log.read_text().count("\n")
        file.write_text(bad)
        os.kill(server.pid, signal.SIGHUP)
        await until(lambda before=before: server.log.read_text().count("\n") > before)  # type: ignore[misc]
        assert (await bob.ask(f"with {bad}")).status == 200
    assert (await stream).is_whole
    file.write_text(good + "  - {name: newcomer, backend: fake}\n")
    os.kill(server.pid, signal.SIGHUP)
    await until(lambda: "newcomer" in httpx.get(f"{server.url}/health").text)
    file.write_text(good)


@table.shows("HTTP process killed with 100 streams open")
async def test_the_http_process_is_killed(row: Row, server: LocalServer, bob: Caller) -> None:
    engine, http = [await asyncio.to_thread(yard.child, server, name) for name in (ENGINE, "http")]
    told = await hundred_streams(bob, lambda: yard.kill_pid(http.pid or 0))
    await until(lambda: yard.is_back(server, "http"))
    assert (await asyncio.to_thread(yard.child, server, ENGINE)).pid == engine.pid
    assert (await bob.ask(model="test/pocket", max_tokens=2)).status == 200
    await until(lambda: active_streams(server) == 0)
    await assert_usable(server, bob)
    callers.assert_exact(told, own_entries(server, told))


@table.shows("whole server killed with 100 streams open")
async def test_the_whole_server_is_killed(row: Row, server: LocalServer, bob: Caller) -> None:
    processes = await asyncio.to_thread(yard.pids, server)
    told = await hundred_streams(bob, lambda: yard.kill_pid(server.pid))
    await until(lambda: not any(yard.is_alive(pid) for pid in processes))
    server.start()  # by this thread, whose end would end it
    bob.moved_to(server.url)
    assert (await bob.ask(model="test/pocket", max_tokens=2)).status == 200
    await until(lambda: active_streams(server) == 0)
    await assert_usable(server, bob)
    callers.assert_exact(told, own_entries(server, told))
