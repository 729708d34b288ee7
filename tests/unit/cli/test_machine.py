import socket
from pathlib import Path

import pytest

from trainyard.cli import machine
from trainyard.cli.machine import GIB, Verdict


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


def test_what_is_optional_says_what_to_install() -> None:
    missing = machine.postgres_client(which=lambda _: None)
    assert (missing.verdict, "postgresql-client" in missing.advice) == (Verdict.OPTIONAL, True)
    assert machine.postgres_client(which=lambda _: "/bin/psql").verdict is Verdict.OK
