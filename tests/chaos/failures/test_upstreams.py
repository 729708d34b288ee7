"""Servers behind models that stall, drop, refuse, talk nonsense: an error in time, nothing charged, and back again."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.chaos.failures import callers, table, yard
from tests.chaos.failures.callers import Caller, Entry, Told
from tests.chaos.failures.table import Row
from trainyard import Client
from trainyard.loadtest.mock import Latency, MockServer, in_thread
from trainyard.sdk.local_server import LocalServer

pytestmark = pytest.mark.timeout(120)
WAIT_S = 0.5
WITHIN_S = WAIT_S + 2
FAR = "backend: openai, base_url: '{url}/v1', retries: 0, first_byte_timeout_s: {wait_s}, idle_timeout_s: {wait_s}"


@pytest.fixture(scope="module")
def mock() -> Iterator[MockServer]:
    with in_thread(MockServer(latency=Latency(answer_tokens=8))) as running:
        yield running


@pytest.fixture(scope="module")
def server(mock: MockServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    directory = tmp_path_factory.mktemp("upstreams")
    far = FAR.format(url=mock.url, wait_s=WAIT_S)
    names = ("far", "fragile", "busy")
    (directory / "models.yaml").write_text(
        "models:\n" + "".join(f"  - {{name: {name}, {far}}}\n" for name in names) + "  - {name: echo, backend: fake}\n"
    )
    environment = {"TRAINYARD_MODELS_FILE": str(directory / "models.yaml")}
    with LocalServer(directory / "data", environment=environment) as running:
        yield running


@pytest.fixture
async def bob(server: LocalServer, mock: MockServer) -> AsyncIterator[Caller]:
    """A caller with four places, so that one that leaks is seen."""
    mock.plan.clear()
    mock.latency = Latency(answer_tokens=8)
    with Client(server.key, server.url) as admin:
        made = admin.create_key("bob", scopes=["generate"], limits={"concurrency": 4, "tokens": 10**9})
    async with callers.caller(server.url, made.key) as one:
        yield one


def entries_of(server: LocalServer, told: list[Told]) -> list[Entry]:
    known = {one.request_id for one in told}
    entries = callers.ledger(f"sqlite:///{server.data_dir / 'trainyard.db'}")
    return [entry for entry in entries if entry.request_id in known]


async def fails(bob: Caller, server: LocalServer, mock: MockServer, row: Row, fault: str, code: str) -> None:
    """Ask four at once, for whole answers and streams, of an upstream with this fault; then once more without."""
    mock.plan.add(fault)
    told = await asyncio.gather(*(bob.ask(model="far", stream=number % 2 == 0) for number in range(4)))
    for one in told:
        assert (one.status, one.code, one.usage) == (row.statuses[0], code, None)
        assert one.took_s < WITHIN_S
    mock.plan.clear()
    again = list(await asyncio.gather(*(bob.ask(model="far") for _ in range(4))))
    assert {one.status for one in again} == {200}  # every place is free, and the circuit is closed
    callers.assert_exact([*told, *again], entries_of(server, [*told, *again]))


@table.shows("upstream answers 429")
async def test_an_upstream_that_is_overloaded(row: Row, bob: Caller, server: LocalServer, mock: MockServer) -> None:
    await fails(bob, server, mock, row, "429", row.codes[0])


@table.shows("upstream answers 500, drops the line or talks nonsense")
@pytest.mark.parametrize(("fault", "code"), [("500", 0), ("drop-head", 0), ("garbage", 1), ("html", 1), ("empty", 1)])
async def test_an_upstream_that_fails(
    row: Row, bob: Caller, server: LocalServer, mock: MockServer, fault: str, code: int
) -> None:
    if fault in ("garbage", "empty"):  # of a stream these break an event, not the head
        mock.plan.add(fault, times=1)
        one = await bob.ask(model="far")
        assert (one.status, one.code, one.usage) == (row.statuses[0], row.codes[code], None)
        assert entries_of(server, [one]) == []
        assert (await bob.ask(model="far")).status == 200
    else:
        await fails(bob, server, mock, row, fault, row.codes[code])


@table.shows("upstream stalls before its answer")
async def test_an_upstream_that_stalls(row: Row, bob: Caller, server: LocalServer, mock: MockServer) -> None:
    await fails(bob, server, mock, row, "stall-head", row.codes[0])


@table.shows("upstream stalls or drops the line during a stream")
@pytest.mark.parametrize(("fault", "code"), [("stall-body", 0), ("drop-body", 1), ("cut-event", 1), ("error-event", 1)])
async def test_a_stream_that_breaks(
    row: Row, bob: Caller, server: LocalServer, mock: MockServer, fault: str, code: int
) -> None:
    mock.plan.add(fault)
    told = await asyncio.gather(*(bob.ask(model="far", stream=True) for _ in range(4)))
    mock.plan.clear()
    for one in told:
        assert (one.status, one.code, one.usage, one.is_whole) == (200, row.codes[code], None, False)
        assert one.pieces > 0
        assert one.took_s < WITHIN_S
    entries = entries_of(server, list(told))
    assert sorted(entry.request_id for entry in entries) == sorted(one.request_id for one in told)
    assert {entry.outcome for entry in entries} == {"failed"}
    again = await asyncio.gather(*(bob.ask(model="far") for _ in range(4)))
    assert {one.status for one in again} == {200}


@table.shows("upstream fails five times in a row")
async def test_a_circuit_opens_and_closes(row: Row, bob: Caller, server: LocalServer, mock: MockServer) -> None:
    mock.plan.add("500", model="fragile")
    failing = [await bob.ask(model="fragile") for _ in range(5)]
    assert {one.code for one in failing} == {"upstream_failed"}
    asked = mock.seen.models["fragile"]
    refused = [await bob.ask(model="fragile", stream=number % 2 == 0) for number in range(6)]
    assert {(one.status, one.code) for one in refused} == {(row.statuses[0], row.codes[0])}
    assert {1 <= int(one.headers["retry-after"]) <= 5 for one in refused} == {True}
    assert max(one.took_s for one in refused) < 1
    assert mock.seen.models["fragile"] == asked  # it is left alone
    assert (await bob.ask(model="far")).status == 200
    assert (await asyncio.to_thread(callers.readyz, server.url)) == (200, set())
    mock.plan.clear()
    await asyncio.sleep(5)
    well = [await bob.ask(model="fragile")]
    assert well[0].status == 200
    assert callers.sample(server.url, "trainyard_upstream_circuit") == 0
    callers.assert_exact([*failing, *refused, *well], entries_of(server, [*failing, *refused, *well]))


@table.shows("callers leave their streams")
async def test_two_hundred_callers_leave_at_any_moment(
    row: Row, bob: Caller, server: LocalServer, mock: MockServer
) -> None:
    mock.latency = Latency(answer_tokens=20, token_s=0.02)

    async def one(number: int) -> Told:
        leave_after_s = 0.001 + (number * 7919 % 200) / 200 * 0.6  # spread over a whole answer and beyond
        return await bob.ask(model="busy", stream=number % 4 != 0, leave_after_s=leave_after_s)

    told: list[Told] = []
    for start in range(0, 200, 8):  # twice as many as there are places
        told += await asyncio.gather(*(one(number) for number in range(start, start + 8)))
    await asyncio.to_thread(yard.until, lambda: callers.sample(server.url, "trainyard_open_reservations") == 0, 5)
    await asyncio.to_thread(yard.until, lambda: mock.seen.in_flight == 0, 5)
    entries = entries_of(server, told)
    callers.assert_exact(told, entries)
    assert {entry.outcome for entry in entries} == {"done", "cancelled"}
    assert {one.status for one in told} == {0, 200, row.statuses[0]}
    mock.latency = Latency(answer_tokens=8, token_s=0.05)
    full = await asyncio.gather(*(bob.ask(model="busy", stream=True) for _ in range(5)))
    assert sorted(one.status for one in full) == [200] * 4 + [row.statuses[0]]
