"""A real server as a child, and the ways in which it does not come up."""

import os
from pathlib import Path

import pytest

from trainyard.core import errors
from trainyard.sdk import Client
from trainyard.sdk.local_server import LocalServer


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_local_server_serves_while_entered_and_keeps_its_data(tmp_path: Path) -> None:
    with LocalServer(tmp_path / "data") as server, Client(server.key, server.url) as client:
        pid = server.pid
        assert client.models() == ["trainyard/pocket"]
        assert is_alive(pid)
        with pytest.raises(errors.Conflict, match=f"runs already, with pid {pid}"):
            server.start()
    assert not is_alive(pid)
    server.stop()  # a second time: nothing happens
    assert (tmp_path / "data" / "trainyard.db").is_file()


def test_a_server_that_cannot_start_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(errors.StartupError, match=r"ended with status 2: .*no-such-option"):
        LocalServer(tmp_path, arguments=("--no-such-option",)).__enter__()


def test_a_server_that_is_slow_is_stopped_by_force(tmp_path: Path) -> None:
    slow = LocalServer(tmp_path, start_timeout_s=0.0, stop_timeout_s=0.0)
    with pytest.raises(errors.StartupError, match=r"not ready after 0 s: it printed nothing"):
        slow.__enter__()
    slow.stop()


def test_a_data_directory_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "trainyard.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(errors.StartupError, match="database"):
        LocalServer(tmp_path).__enter__()


def test_a_bad_environment_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.StartupError, match="unknown setting 'nonsense'"):
        LocalServer(tmp_path, environment={"TRAINYARD_NONSENSE": "1"}).__enter__()
