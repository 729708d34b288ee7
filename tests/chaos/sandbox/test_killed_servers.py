"""`kill -9` of a whole server, of one HTTP process and of a zygote: sessions, states and files go on, on both sets of
stores.
"""

import os
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.chaos.failures import table, yard
from tests.chaos.failures.table import Row
from tests.chaos.sandbox import servers
from tests.chaos.sandbox.servers import Caller
from tests.services.postgres import Postgres
from tests.services.redis import RedisServer
from tests.services.s3 import S3Server
from trainyard.sandbox.service.holding import LEASE_S
from trainyard.sdk.local_server import LocalServer

pytestmark = pytest.mark.timeout(180)

SESSIONS = 3


@pytest.fixture(scope="module", params=["embedded", "services"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """SQLite and a directory under one HTTP process; Postgres, Redis and S3 under two."""
    home = tmp_path_factory.mktemp("killed")
    if request.param == "embedded":
        with servers.server(home, {}) as running:
            yield running
        return
    postgres: Postgres = request.getfixturevalue("postgres_server")
    redis: RedisServer = request.getfixturevalue("redis_server")
    s3: S3Server = request.getfixturevalue("rclone_server")
    with (
        servers.shared(postgres, redis, s3) as settings,
        servers.server(home, settings | {"SERVER__WORKERS": "2"}) as running,
    ):
        servers.all_up(running)
        yield running


@pytest.fixture
def caller(server: LocalServer) -> Caller:
    return Caller(server, server.key)


@pytest.fixture
def last(server: LocalServer) -> int:
    """Number of the last HTTP process."""
    return sum(one.name.startswith("http") for one in yard.run_file(server).children) - 1


def name_of(worker: int) -> str:
    return "http" if worker == 0 else f"http:{worker}"


def kill_child(server: LocalServer, name: str) -> None:
    found = next(one for one in yard.run_file(server).children if one.name == name)
    assert found.pid is not None
    os.kill(found.pid, signal.SIGKILL)


@table.shows("whole server killed under live sessions")
def test_the_whole_server_is_killed(row: Row, server: LocalServer, caller: Caller, last: int) -> None:
    stories = [servers.begin(caller, number, worker=number % (last + 1)) for number in range(SESSIONS)]
    processes = yard.pids(server)
    boxes = [box["pid"] for box in caller.ask("GET", "/v1/admin/sandbox").json()["boxes"]]
    with caller.running("print(1, flush=True)\nn = -1\nimport time\ntime.sleep(30)", stories[0].session) as events:
        assert any(b"stdout" in event for event in events)  # it runs
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(httpx.TransportError):
            list(events)
    yard.until(lambda: not any(yard.is_alive(pid) for pid in [*processes, *boxes]), 20)
    server.start()
    servers.all_up(server)
    began_s = time.monotonic()
    for story in stories:
        servers.check(caller, story, worker=(story.number + 1) % (last + 1), is_new=True)
    assert time.monotonic() - began_s < LEASE_S * SESSIONS / 2  # a dead holder is not waited for


@table.shows("HTTP process killed under live sessions")
def test_an_http_process_is_killed(row: Row, server: LocalServer, caller: Caller, last: int) -> None:
    stories = [servers.begin(caller, number, worker=last) for number in range(SESSIONS)]
    boxes = [box["pid"] for box in caller.ask("GET", "/v1/admin/sandbox", worker=last).json()["boxes"]]
    kill_child(server, name_of(last))
    began_s = time.monotonic()
    if last == 0:
        yard.until(lambda: yard.is_back(server, "http"))
    for story in stories:  # by the other one, where there is another one, and at once
        servers.check(caller, story, worker=0, is_new=True)
    assert time.monotonic() - began_s < LEASE_S * SESSIONS / 2
    yard.until(lambda: not any(yard.is_alive(pid) for pid in boxes), 20)
    yard.until(lambda: yard.is_back(server, name_of(last)))
    for story in stories:
        servers.check(caller, story, worker=last, is_new=False)


@table.shows("zygote killed")
def test_the_zygote_is_killed(row: Row, server: LocalServer, caller: Caller, last: int) -> None:
    stories = [servers.begin(caller, number, worker=last) for number in range(SESSIONS)]
    caller.run("volatile = open('given.txt')", stories[0].session, worker=last)
    kill_child(server, "zygote:lean")
    for story in stories:  # they live on, with what no checkpoint can hold
        servers.check(caller, story, worker=last, is_new=False)
    assert caller.run("print(volatile.read())", stories[0].session, worker=last)["stdout"] == "given 0\n"
    for number in range(10, 16):  # more than are kept ready
        answer = caller.ask("POST", "/exec", worker=last, json={"lang": "py", "code": f"print({number})"})
        assert answer.status_code == 200, answer.text
        assert answer.json()["stdout"] == f"{number}\n"
    yard.until(lambda: yard.is_back(server, "zygote:lean"))
    servers.check(caller, servers.begin(caller, 9, worker=0), worker=last, is_new=False)


def test_nothing_is_left_at_the_end(server: LocalServer, caller: Caller, last: int) -> None:
    for session in caller.ask("GET", "/sessions").json()["sessions"]:
        assert caller.ask("DELETE", f"/sessions/{session['session_id']}", worker=last).status_code == 204
    assert caller.ask("GET", "/sessions").json()["sessions"] == []
    assert caller.ask("POST", "/v1/admin/sandbox/gc?stray_s=60").status_code == 200
