"""Database, counters, blobs or the box go while code runs: what the caller is told, and what is there after."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.chaos.failures import callers, table, yard
from tests.chaos.failures.table import Row
from tests.chaos.sandbox import servers
from tests.chaos.sandbox.servers import Caller
from tests.services import postgres, redis, s3
from trainyard.sdk.local_server import LocalServer

pytestmark = pytest.mark.timeout(180)
WRITES = "x = 2\nopen('new.txt', 'w').write('new')"


@dataclass
class Place:
    """A server over stores that may fail."""

    server: LocalServer
    caller: Caller
    postgres: postgres.OwnPostgres
    redis: redis.RedisServer
    s3: s3.S3Server


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with postgres.installed() as database, redis.served() as counters, s3.rclone() as store:
        blobs = {f"BLOBS__{name.upper()}": value for name, value in store.settings(store.create_bucket()).items()}
        settings = {"DATABASE__URL": database.create_database(), "REDIS__URL": counters.url(), **blobs}
        home = tmp_path_factory.mktemp("stores")
        with servers.server(home, settings | {"BLOBS__TIMEOUT_S": "0.5"}) as server:
            yield Place(server, Caller(server, server.key), database, counters, store)


@contextmanager
def postgres_stopped(place: Place) -> Iterator[None]:
    place.postgres.stop()
    try:
        yield
    finally:
        place.postgres.start()


@contextmanager
def redis_frozen(place: Place) -> Iterator[None]:
    place.redis.pause()
    try:
        yield
    finally:
        place.redis.resume()


@contextmanager
def s3_gone(place: Place) -> Iterator[None]:
    place.s3.stop()
    try:
        yield
    finally:
        place.s3.start()


Outage = Callable[[Place], AbstractContextManager[None]]


def begun(place: Place) -> str:
    """A session that holds x = 1 and a file, written down."""
    done = place.caller.run("x = 1\nopen('old.txt', 'w').write('old')")
    place.caller.durable(done["session_id"])
    return str(done["session_id"])


def asked_for_a_second(place: Place) -> httpx.Response:
    """What somebody else is told, at the latest when what is known of his key has to be asked for again."""
    ends_s = time.monotonic() + 1.5
    while True:
        told = place.caller.ask("POST", "/exec", json={"lang": "py", "code": "print(6 * 7)"})
        if told.status_code != 200 or time.monotonic() > ends_s:
            return told
        time.sleep(0.1)


def run_under(place: Place, session: str, fails: Outage) -> tuple[httpx.Response, str, dict[str, Any]]:
    """Let a part go while code runs; gives what somebody else is told meanwhile, and the last event of the run."""
    code = f"import time\nprint('begun', flush=True)\ntime.sleep(3)\n{WRITES}"
    with place.caller.running(code, session) as events:
        assert any(b"stdout" in event for event in events)
        with fails(place):
            told = asked_for_a_second(place)
            last = b"".join(events).decode().strip().split("\n\n")[-1]
    name, data = (line.partition(": ")[2] for line in last.splitlines())
    yard.until(lambda: callers.readyz(place.server.url) == (200, set()), timeout_s=40)
    return told, name, json.loads(data)


def left_in(place: Place, session: str) -> str:
    """What the next run of the session finds."""
    return str(place.caller.run("import os; print(x, sorted(os.listdir()))", session)["stdout"])


@table.shows("Postgres stopped while code runs")
def test_the_database_goes(row: Row, place: Place) -> None:
    session = begun(place)
    told, name, data = run_under(place, session, postgres_stopped)
    assert (told.status_code, told.json()["code"]) == (row.statuses[0], row.codes[0])
    assert (name, data["code"]) == ("error", row.codes[0])
    assert left_in(place, session) == "1 ['old.txt']\n"  # the checkpoint; what could not be told of is not there


@table.shows("Redis frozen while code runs")
def test_the_counters_go(row: Row, place: Place) -> None:
    session = begun(place)
    told, name, data = run_under(place, session, redis_frozen)
    assert (told.status_code, told.json()["code"]) == (row.statuses[0], row.codes[0])
    assert (name, data["error"], [file["name"] for file in data["files"]]) == ("done", None, ["new.txt"])
    assert left_in(place, session) == "2 ['new.txt', 'old.txt']\n"


@table.shows("S3 gone while code runs")
def test_the_blobs_go(row: Row, place: Place) -> None:
    session = begun(place)
    told, name, data = run_under(place, session, s3_gone)
    assert (told.status_code, told.json()["stdout"]) == (200, "42\n")  # it needs no blob
    assert (name, data["code"]) == ("error", row.codes[0])
    assert left_in(place, session) == "1 ['old.txt']\n"


@table.shows("box killed under its code")
def test_the_box_goes(row: Row, place: Place) -> None:
    session = begun(place)
    code = f"{WRITES}\nprint('begun', flush=True)\nwhile True: pass"
    with place.caller.running(code, session) as events:
        assert any(b"stdout" in event for event in events)
        for box in place.caller.ask("GET", "/v1/admin/sandbox").json()["boxes"]:
            os.kill(box["pid"], signal.SIGKILL)
        last = b"".join(events).decode().strip().split("\n\n")[-1]
    done = json.loads(last.splitlines()[1].removeprefix("data: "))
    assert (done["reason"], done["signal"], done["files"]) == (row.codes[0], "SIGKILL", [])
    assert left_in(place, session) == "1 ['old.txt']\n"
