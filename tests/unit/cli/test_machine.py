import socket
from pathlib import Path

import pytest

from trainyard.cli import machine
from trainyard.cli.machine import GIB, Verdict
from trainyard.core import settings
from trainyard.core.processes import RunFile, runfile


@pytest.mark.parametrize(
    ("version", "verdict"), [((3, 11), Verdict.OK), ((3, 13), Verdict.OK), ((3, 10), Verdict.FAILED)]
)
def test_python_is_new_enough_or_not(version: tuple[int, int], verdict: Verdict) -> None:
    assert machine.python(version).verdict is verdict


@pytest.mark.parametrize(
    ("size", "verdict", "found"), [(8 * GIB, Verdict.OK, "8.0 GiB"), (GIB, Verdict.FAILED, "1.0 GiB")]
)
def test_memory_is_enough_or_not(size: int, verdict: Verdict, found: str) -> None:
    fact = machine.memory(size)
    assert (fact.verdict, fact.found, bool(fact.advice)) == (verdict, found, verdict is Verdict.FAILED)


def test_the_memory_of_this_machine_is_measured() -> None:
    assert machine.memory().found.endswith(" GiB")


def test_a_data_directory_that_is_not_there_yet_is_judged_by_its_parent(tmp_path: Path) -> None:
    assert machine.data_directory(tmp_path / "a" / "b").verdict is Verdict.OK
    assert list(tmp_path.iterdir()) == []
    refused = machine.data_directory(Path("/proc/nothing"))
    assert refused.verdict is Verdict.FAILED
    assert "--data-dir" in refused.advice


def test_a_taken_port_is_told_from_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = taken.getsockname()[1]
        fact = machine.port("127.0.0.1", number)
        assert (fact.verdict, "--port" in fact.advice) == (Verdict.FAILED, True)
    assert machine.port("127.0.0.1", number).verdict is Verdict.OK


def run_of(url: str) -> RunFile:
    return RunFile(pid=7, url=url, started_at=0.0, control_socket="", socket_directory="", sockets={}, children=[])


def test_the_port_of_the_own_server_is_no_obstacle(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as own:
        number = own.getsockname()[1]
        runfile.write(tmp_path / "run.json", run_of(f"http://127.0.0.1:{number}"))
        fact = machine.port("127.0.0.1", number, tmp_path)
        assert (fact.verdict, "pid 7" in fact.found) == (Verdict.OK, True)
        runfile.write(tmp_path / "run.json", run_of("http://127.0.0.1:1"))
        assert machine.port("127.0.0.1", number, tmp_path).verdict is Verdict.FAILED


def test_servers_that_the_settings_name_are_tried(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as redis:
        number = redis.getsockname()[1]
        fact = machine.reachable("redis", f"redis://user:secret@127.0.0.1:{number}/0", 6379)
        assert (fact.verdict, fact.found) == (Verdict.OK, f"127.0.0.1:{number} can be reached")
    gone = machine.reachable("postgres", "postgresql://user:secret@127.0.0.1/x", number)
    assert (gone.verdict, gone.advice) == (Verdict.FAILED, "start it, or correct database.url")
    assert "secret" not in gone.found
    effective = settings.load(
        {"data_dir": tmp_path, "redis.url": f"redis://127.0.0.1:{number}/0", "server.port": 0}, environ={}
    )
    facts = {fact.name: fact for fact in machine.examine(effective)}
    assert (facts["redis"].verdict, "postgres" in facts) == (Verdict.FAILED, False)


def test_what_is_optional_says_what_to_install() -> None:
    missing = machine.postgres_client(which=lambda _: None)
    assert (missing.verdict, "postgresql-client" in missing.advice) == (Verdict.OPTIONAL, True)
    assert machine.postgres_client(which=lambda _: "/bin/psql").verdict is Verdict.OK
    absent = machine.driver("redis", "no_such_package", "redis.url")
    assert (absent.verdict, absent.advice) == (Verdict.OPTIONAL, "only for redis.url: pip install 'trainyard[redis]'")
