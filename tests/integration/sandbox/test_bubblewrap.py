"""A server with `sandbox.backend: bubblewrap`, from its start to nothing that is left of it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.sandbox.backends.local.host import GONE_S, is_there, tree_of
from tests.integration.sandbox.machine import serving
from trainyard import Client
from trainyard.sdk.local_server import LocalServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with serving("bubblewrap", tmp_path_factory.mktemp("bubblewrap")) as started:
        yield started


@pytest.fixture
def client(server: LocalServer) -> Iterator[Client]:
    with Client(server.key, server.url, timeout_s=120) as opened:
        yield opened


def test_a_session_keeps_its_variables_and_files(client: Client) -> None:
    session = client.sandbox.session()
    first = session.run("import numpy as np\nx = np.arange(4)\nopen('kept.txt', 'w').write('here')")
    second = session.run("print(int(x.sum()), open('kept.txt').read())")

    assert (first.stderr, [file["name"] for file in first.files]) == ("", ["kept.txt"])
    assert (second.stdout, second.stderr) == ("6 here\n", "")
    session.delete()


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("bash", "echo $((6 * 7))"),
        ("c", '#include <stdio.h>\nint main(void) { puts("42"); }'),
        ("js", "console.log(6 * 7)"),
        ("java", 'class A { public static void main(String[] a) { System.out.println("42"); } }'),
    ],
)
def test_other_languages_run_in_it(client: Client, language: str, code: str) -> None:
    if language not in {each["code"] for each in client.sandbox.languages()}:
        pytest.skip(f"{language} is not on this machine")
    session = client.sandbox.session()
    done = session.run(code, language=language)

    assert (done.stdout, done.stderr, done.exit_code) == ("42\n", "", 0)
    session.delete()


def test_a_limit_ends_a_run_with_its_reason(client: Client) -> None:
    session = client.sandbox.session()
    done = session.run("while True: pass", timeout_s=0.5)

    assert done.reason == "timeout"
    session.delete()


def test_doctor_tells_the_layers_of_bubblewrap(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "trainyard", "doctor", "--json", "--data-dir", str(tmp_path)],
        env={**os.environ, "TRAINYARD_SANDBOX__BACKEND": "bubblewrap"},
        capture_output=True,
        text=True,
        check=False,
    )

    facts = {fact["name"]: fact for fact in json.loads(told.stdout)}
    assert facts["sandbox: bubblewrap"]["found"].startswith("bubblewrap ")
    assert facts["sandbox: network namespace"]["found"] == "own"
    assert facts["sandbox: number of files"]["found"] == "not held"


def test_a_killed_server_leaves_no_process(tmp_path: Path) -> None:
    with serving("bubblewrap", tmp_path) as server:
        with Client(server.key, server.url, timeout_s=120) as client:
            client.sandbox.run("x = 1")
        pids = tree_of(server.pid)
        names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in pids if is_there(pid)}
        assert "bwrap" in names

        os.kill(server.pid, 9)

        deadline = time.monotonic() + GONE_S
        while left := [pid for pid in pids if is_there(pid)]:
            assert time.monotonic() < deadline, left
            time.sleep(0.05)
