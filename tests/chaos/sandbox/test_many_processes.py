"""Sessions that are called through several processes, and through several hosts, at once and in turn."""

import re
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.chaos.failures import yard
from tests.chaos.sandbox import servers
from tests.chaos.sandbox.servers import Caller
from tests.services.postgres import Postgres
from tests.services.redis import RedisServer
from tests.services.s3 import S3Server

pytestmark = pytest.mark.timeout(180)

CALLS = 40


@pytest.fixture(scope="module")
def hosts(
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: Postgres,
    redis_server: RedisServer,
    moto_server: S3Server,
) -> Iterator[tuple[Caller, Caller]]:
    """Two servers with a data directory each, the first with two HTTP processes; one key for both."""
    home = tmp_path_factory.mktemp("hosts")
    with servers.shared(postgres_server, redis_server, moto_server) as settings:
        first = servers.server(home / "first", settings | {"SERVER__WORKERS": "2"})
        second = servers.server(home / "second", settings)
        with first, second:
            servers.all_up(first)
            servers.all_up(second)
            yield Caller(first, first.key), Caller(second, first.key)


@pytest.fixture
def here(hosts: tuple[Caller, Caller]) -> Caller:
    return hosts[0]


@pytest.fixture
def there(hosts: tuple[Caller, Caller]) -> Caller:
    return hosts[1]


def test_a_session_moves_between_hosts_with_all_it_has(here: Caller, there: Caller) -> None:
    story = servers.begin(here, 3)
    servers.check(there, story, is_new=True)
    there.run("n = 33\nopen('more.txt', 'w').write('more')", story.session)
    done = here.run("print(n, open('more.txt').read(), double(4))", story.session)
    assert done["stdout"] == "33 more 8\n"
    assert done["lost"] == []


def test_what_was_never_written_down_moves_too(here: Caller, there: Caller) -> None:
    session = here.run("n = 0")["session_id"]
    for number in range(1, 7):  # sooner than the checkpoint that goes by the clock
        caller = there if number % 2 else here
        assert caller.run("n += 1\nprint(n)", session)["stdout"] == f"{number}\n"


def test_a_host_that_is_asked_while_the_other_runs_waits_for_the_end(here: Caller, there: Caller) -> None:
    session = here.run("seen = []")["session_id"]
    with here.running("print(1, flush=True)\nimport time\ntime.sleep(2)\nseen.append('long')", session) as events:
        assert any(b"stdout" in event for event in events)
        done = there.run("seen.append('short')\nprint(seen)", session)
        assert b"event: done" in b"".join(events)
    assert done["stdout"] == "['long', 'short']\n"


@pytest.mark.parametrize("between", ["processes", "hosts"])
def test_of_calls_at_once_none_is_lost(here: Caller, there: Caller, between: str) -> None:
    session = here.run("n, began = 0, 0")["session_id"]
    calls = CALLS if between == "processes" else CALLS // 4

    def call(number: int) -> int:
        code = "began += 1\nassert began == n + 1\nn += 1\nopen('n.txt', 'w').write(str(n))\nprint(n)"
        other = Caller(here.server, here.key) if between == "processes" else there
        caller = (here, other)[number % 2]
        done = caller.run(code, session, worker=number % 2 if between == "processes" else 0)
        assert done["exit_code"] == 0, done
        return int(done["stdout"])

    with ThreadPoolExecutor(8) as threads:
        counted = sorted(threads.map(call, range(calls)))
    assert counted == list(range(1, calls + 1))  # one interpreter: each number once
    for caller in (here, there):
        done = caller.run("print(n, began, open('n.txt').read())", session)
        assert done["stdout"] == f"{calls} {calls} {calls}\n"


def test_a_call_through_another_process_costs_hardly_more(here: Caller) -> None:
    session = here.run("n = 0")["session_id"]
    is_new, took_s = [], ([], [])  # type: tuple[list[bool], tuple[list[float], list[float]]]
    with here.process(0) as holder, here.process(1) as other:
        for number in range(60):
            began_s = time.perf_counter()
            body = {"lang": "py", "code": "n += 1", "session_id": session}
            told = (holder, other)[number % 2].post("/exec", json=body).json()
            took_s[number % 2].append(time.perf_counter() - began_s)
            is_new.append(bool(told["restored"]))
    assert not any(is_new)
    own, handed_on = map(statistics.median, took_s)
    assert handed_on < own + 0.03 or handed_on < 3 * own, (own, handed_on)


def test_what_is_told_of_a_session_is_told_by_who_has_it(here: Caller) -> None:
    session = here.run("x = 5\nlock = __import__('threading').Lock()")["session_id"]
    variables = here.ask("GET", f"/sessions/{session}/variables", worker=1).json()["variables"]
    assert {one["name"] for one in variables} >= {"x"}
    assert not here.run("print(lock.locked())", session)["restored"]  # it has not moved for that
    here.run("x = 6", session, worker=1)
    exported = here.ask("GET", f"/state/{session}", worker=1)
    assert exported.status_code == 200  # with what is not yet written down
    other = here.run("y = 1", worker=1)["session_id"]
    assert here.ask("POST", f"/state/{other}", content=exported.content).status_code == 201
    assert here.run("print(x)", other)["stdout"] == "6\n"


def test_an_interrupt_arrives_through_another_process(here: Caller) -> None:
    session = here.run("n = 1")["session_id"]
    with here.running("print(1, flush=True)\nimport time\ntime.sleep(20)", session) as events:
        assert any(b"stdout" in event for event in events)
        answer = here.ask("POST", f"/sessions/{session}/interrupt", worker=1)
        assert answer.json()["interrupted"]
        assert re.search(rb'"reason": ?"interrupted"', b"".join(events))
    assert here.run("print(n)", session, worker=1)["stdout"] == "1\n"


def test_a_stranger_learns_nothing_through_another_process(here: Caller) -> None:
    session = here.run("n = 1")["session_id"]
    body = {"lang": "py", "code": "1", "session_id": session}
    for worker in (0, 1):
        nobody = Caller(here.server, "sk-nobody")
        assert nobody.ask("POST", "/exec", worker=worker, json=body).status_code == 401
        assert nobody.ask("GET", f"/state/{session}/info", worker=worker).status_code == 401


def test_a_client_that_leaves_ends_its_run_at_another_process(here: Caller) -> None:
    session = here.run("n = 1")["session_id"]
    started = threading.Event()

    def leave() -> None:
        body = {"lang": "py", "code": "print(1, flush=True)\nimport time\ntime.sleep(60)", "stream": True}
        with here.process(1) as http:
            with http.stream("POST", "/exec", json=body | {"session_id": session}) as answer:
                assert any(b"stdout" in event for event in answer.iter_raw())
            started.set()

    thread = threading.Thread(target=leave)
    thread.start()
    assert started.wait(30)
    began_s = time.monotonic()
    assert here.run("print(2)", session)["stdout"] == "2\n"
    assert time.monotonic() - began_s < 20
    thread.join()
    yard.until(lambda: here.ask("GET", "/readyz").status_code == 200)
