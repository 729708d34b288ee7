import contextlib
import os
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from trainyard.core import errors, opening
from trainyard.core.datadir import (
    SOCKET_PATH_BYTES,
    DataDirectory,
    DataDirectoryLock,
    make_socket_directory,
    remove_stale_sockets,
)
from trainyard.core.processes import RunFile, runfile
from trainyard.core.settings import Settings

MODE = 0o777


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    made = DataDirectory(tmp_path / "data")
    made.prepare()
    return made


def mode_of(path: Path) -> int:
    return path.stat().st_mode & MODE


def test_a_new_directory_is_private(data: DataDirectory) -> None:
    assert mode_of(data.path) == 0o700


def test_an_empty_directory_becomes_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    DataDirectory(tmp_path).prepare()
    assert mode_of(tmp_path) == 0o700


def test_the_mode_of_a_directory_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "somebody's").touch()
    DataDirectory(tmp_path).prepare()
    assert mode_of(tmp_path) == 0o755


@pytest.mark.parametrize("tail", ["file", "file/below"])
def test_a_path_that_is_no_directory_is_one_clear_error(tmp_path: Path, tail: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.StartupError, match="choose another with --data-dir") as refused:
        DataDirectory(tmp_path / tail).prepare()
    assert "\n" not in refused.value.message


def test_the_second_server_on_a_directory_is_told_the_pid_of_the_first(data: DataDirectory) -> None:
    held = DataDirectoryLock(data)
    with pytest.raises(errors.StartupError, match=f"in use by the server with pid {os.getpid()}; stop it") as refused:
        DataDirectoryLock(data)
    assert refused.value.code == "data_dir_locked"
    held.release()
    DataDirectoryLock(data).release()


def test_the_lock_of_a_killed_process_is_free(data: DataDirectory) -> None:
    code = (
        "import os, signal, sys, pathlib; from trainyard.core import datadir;"
        "lock = datadir.DataDirectoryLock(datadir.DataDirectory(pathlib.Path(sys.argv[1])));"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(data.path)], check=False).returncode == -9
    DataDirectoryLock(data).release()


def test_of_many_first_starts_all_read_the_same_secret(data: DataDirectory) -> None:
    with ThreadPoolExecutor(16) as pool:
        secrets = list(pool.map(lambda _: data.read_secret(), range(64)))
    assert len(set(secrets)) == 1
    assert len(secrets[0]) == 64  # 32 bytes in hexadecimal
    assert mode_of(data.secret) == 0o600
    assert sorted(path.name for path in data.path.iterdir()) == ["secret"]


@pytest.mark.parametrize(
    ("mode", "content", "code"),
    [(0o640, "ab" * 32, "secret_exposed"), (0o604, "ab" * 32, "secret_exposed"), (0o600, "short", "secret_damaged")],
)
def test_a_secret_that_is_not_one_is_refused(data: DataDirectory, mode: int, content: str, code: str) -> None:
    data.secret.write_text(content)
    data.secret.chmod(mode)
    with pytest.raises(errors.StartupError) as refused:
        data.read_secret()
    assert refused.value.code == code


def test_the_socket_directory_is_private_and_new_each_time() -> None:
    one, two = make_socket_directory(), make_socket_directory()
    assert one != two
    assert mode_of(one) == 0o700
    one.rmdir()
    two.rmdir()


def test_a_temporary_directory_that_is_too_long_for_sockets_is_refused() -> None:
    code = "from trainyard.core import datadir; datadir.make_socket_directory()"
    with tempfile.TemporaryDirectory() as base:
        long = Path(base) / ("x" * SOCKET_PATH_BYTES)
        long.mkdir()
        environment = {**os.environ, "TMPDIR": str(long)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
    assert "set a shorter TMPDIR" in done.stderr
    assert f"of {SOCKET_PATH_BYTES} bytes" in done.stderr


@pytest.mark.parametrize(("name", "is_left"), [("trainyard-abc", False), ("precious", True)])
def test_only_socket_directories_of_ours_are_cleared_away(data: DataDirectory, name: str, is_left: bool) -> None:
    left = data.path.parent / name
    left.mkdir()
    run = RunFile(pid=1, url="", started_at=0, control_socket="", socket_directory=str(left), sockets={}, children=[])
    runfile.write(data.run_json, run)
    remove_stale_sockets(data)
    assert left.exists() is is_left


def test_without_a_run_file_nothing_is_cleared_away(data: DataDirectory) -> None:
    remove_stale_sockets(data)
    assert data.path.exists()


def test_the_sockets_of_a_server_that_still_runs_are_not_cleared_away(data: DataDirectory) -> None:
    running = make_socket_directory()
    run = RunFile(
        pid=1,
        url="",
        started_at=0,
        control_socket=str(running / "control.sock"),
        socket_directory=str(running),
        sockets={},
        children=[],
    )
    runfile.write(data.run_json, run)  # as in a copy of its data directory
    with socket.socket(socket.AF_UNIX) as control:
        control.bind(run.control_socket)
        control.listen()
        remove_stale_sockets(data)
        assert running.exists()
    remove_stale_sockets(data)
    assert not running.exists()


def test_the_database_is_private_also_where_the_directory_is_not(data: DataDirectory) -> None:
    (data.path / "lost+found").mkdir()
    data.path.chmod(0o755)
    before = os.umask(0o022)
    try:
        with contextlib.closing(opening.database(Settings(data_dir=data.path))) as database:
            database.migrate()
            modes = {path.name: mode_of(path) for path in data.path.glob("trainyard.db*")}
    finally:
        os.umask(before)
    assert modes == {"trainyard.db": 0o600, "trainyard.db-wal": 0o600, "trainyard.db-shm": 0o600}
