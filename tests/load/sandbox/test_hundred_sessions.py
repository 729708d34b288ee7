"""A hundred sessions that each run code once a second: no error, and nothing left behind afterwards."""

import asyncio
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import func, select

from tests.load.sandbox import traces
from tests.services.packages import require_packages
from trainyard.core.db import Database
from trainyard.sandbox.store import tables
from trainyard.sdk.local_server import LocalServer

pytestmark = pytest.mark.timeout(240)

SESSIONS = 100
LOAD_S = 60
SECOND_LOAD_S = 10
_AT_ONCE = 10
_FILE_EVERY = 10
_SPARE_DESCRIPTORS = 12
"""Threads and connections to the database that come as they are needed, and stay."""
_GROWTH_BYTES = 24 << 20
"""Of the HTTP process over the second load: lists of limits and histories are as long as their window."""


@dataclass
class Load:
    """What came of it."""

    took_ms: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        return sorted(self.took_ms)[int(share * (len(self.took_ms) - 1))]


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server makes what is temporary; short, since sockets lie there."""
    return tmp_path_factory.mktemp("t")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, temporary: Path) -> Iterator[LocalServer]:
    home = tmp_path_factory.mktemp("load")
    (home / "models.yaml").write_text("models: [{name: echo, backend: fake}]")
    environment = {
        "TRAINYARD_MODELS_FILE": str(home / "models.yaml"),
        "TRAINYARD_SANDBOX__ENABLED": "true",
        "TRAINYARD_SANDBOX__PACKAGES": str(require_packages()),
        "TRAINYARD_SANDBOX__WARM_SCIENCE": "1",
        "TRAINYARD_LIMITS__REQUESTS": "1000000",
        "TRAINYARD_LIMITS__CONCURRENCY": "1000",
        "TMPDIR": str(temporary),
    }
    with LocalServer(home / "data", environment=environment) as running:
        yield running


def client(server: LocalServer) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(server.url, headers={"X-API-Key": server.key}, connector=connector)


async def begun(http: aiohttp.ClientSession, count: int) -> list[str]:
    """Begin sessions, some at a time."""
    turn = asyncio.Semaphore(_AT_ONCE)

    async def begin() -> str:
        async with turn, http.post("/exec", json={"lang": "py", "code": "n = 0"}) as answer:
            assert answer.status == 200, await answer.text()
            return str((await answer.json())["session_id"])

    return list(await asyncio.gather(*(begin() for _ in range(count))))


async def loaded(http: aiohttp.ClientSession, sessions: Sequence[str], seconds: float) -> Load:
    """Have every session run code once a second, one call in ten with a file."""
    load, first = Load(), time.monotonic()

    async def caller(number: int, session: str) -> None:
        due_s, calls = first + number / len(sessions), 0
        while due_s < first + seconds:
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            code = "n += 1\nprint(n)"
            if (calls + number) % _FILE_EVERY == 0:
                code += f"\nopen(f'{{n % 3}}.txt', 'w').write('{session} {calls}')"
            calls += 1
            await _call(http, load, {"lang": "py", "code": code, "session_id": session})
            due_s = max(due_s + 1, time.monotonic())

    await asyncio.gather(*(caller(number, session) for number, session in enumerate(sessions)))
    return load


async def _call(http: aiohttp.ClientSession, load: Load, body: dict[str, str]) -> None:
    began_s = time.perf_counter()
    try:
        async with http.post("/exec", json=body) as answer:
            told = await answer.json()
    except aiohttp.ClientError as error:
        load.errors.append(repr(error))
        return
    if answer.status != 200 or told["exit_code"] != 0 or told["restored"]:
        load.errors.append(f"{answer.status}: {told}")
    load.took_ms.append((time.perf_counter() - began_s) * 1e3)


async def ended(http: aiohttp.ClientSession, sessions: Sequence[str]) -> None:
    for session in sessions:
        async with http.delete(f"/sessions/{session}") as answer:
            assert answer.status == 204


async def counted(http: aiohttp.ClientSession, session: str) -> int:
    async with http.post("/exec", json={"lang": "py", "code": "print(n)", "session_id": session}) as answer:
        return int((await answer.json())["stdout"])


async def test_a_hundred_sessions_leave_nothing_behind(
    server: LocalServer, temporary: Path, record_testsuite_property: Callable[[str, object], None]
) -> None:
    http_pid = traces.children(server)["http"]
    async with client(server) as http:
        sessions = await begun(http, _AT_ONCE)  # what is opened at the first use and kept
        await loaded(http, sessions, 2)
        await ended(http, sessions)
    before = await asyncio.to_thread(traces.settled, server, temporary)

    async with client(server) as http:
        sessions = await begun(http, SESSIONS)
        load = await loaded(http, sessions, LOAD_S)
        first_bytes = traces.resident_bytes(http_pid)
        more = await loaded(http, sessions, SECOND_LOAD_S)
        second_bytes = traces.resident_bytes(http_pid)
        counts = [await counted(http, session) for session in sessions]
        calls = len(load.took_ms) + len(more.took_ms)
        figures = {
            "calls": calls,
            "p50_ms": round(statistics.median(load.took_ms), 1),
            "p99_ms": round(load.percentile(0.99), 1),
            "max_ms": round(max(load.took_ms), 1),
            "grown_mb": round((second_bytes - first_bytes) / 1e6, 1),
        }
        record_testsuite_property("hundred_sessions", json.dumps(figures))
        await ended(http, sessions)
    after = await asyncio.to_thread(traces.settled, server, temporary)  # without our connections

    assert load.errors == more.errors == []
    assert sum(counts) == calls  # each call once
    assert calls >= 0.5 * SESSIONS * (LOAD_S + SECOND_LOAD_S)  # a slow machine is late, and is no error
    assert second_bytes - first_bytes < _GROWTH_BYTES
    assert after.processes == before.processes
    assert after.mounts == before.mounts
    assert after.groups == before.groups
    assert after.temporary == before.temporary
    for name, count in before.descriptors.items():
        assert after.descriptors[name] <= count + _SPARE_DESCRIPTORS, (name, before.descriptors, after.descriptors)
    assert rows(server) == {"sandbox_sessions": 0, "sandbox_files": 0, "sandbox_states": 0, "sandbox_blobs": 0}


def rows(server: LocalServer) -> dict[str, int]:
    """Count what the database has of sessions."""
    every = (tables.sessions, tables.files, tables.states, tables.blobs)
    with closing(Database(f"sqlite:///{server.data_dir / 'trainyard.db'}")) as database, database.read() as connection:
        return {table.name: connection.execute(select(func.count()).select_from(table)).scalar_one() for table in every}
