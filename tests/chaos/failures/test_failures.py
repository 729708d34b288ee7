"""Every row of docs/failures.md, made to happen to a real server."""

import re
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from tests.chaos.failures import table, yard
from tests.chaos.failures.table import Row
from trainyard import Client
from trainyard.core.db import Database
from trainyard.sdk import ConflictError, ConnectionError, ServerError, TrainyardAPIError
from trainyard.sdk.local_server import LocalServer

HERE = Path(__file__).parent
pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def server(tmp_path: Path) -> LocalServer:
    """A server of the test's own, started by the scenarios that need one."""
    return LocalServer(tmp_path / "data")


def test_every_row_of_the_page_is_made_to_happen() -> None:
    places = (HERE, HERE.parent / "sandbox")
    pages = "\n".join(file.read_text() for place in places for file in place.glob("test_*.py"))
    shown = re.findall(r'^@table\.shows\("([^"]+)"', pages, re.MULTILINE)
    assert sorted(shown) == sorted(row.failure for row in table.rows())


def refusals(act: Callable[[], object], last: type[TrainyardAPIError]) -> list[TrainyardAPIError]:
    """Call until the error is of the last kind; returns all errors on the way."""
    seen: list[TrainyardAPIError] = []

    def ends() -> bool:
        try:
            act()
        except TrainyardAPIError as error:
            seen.append(error)
            return isinstance(error, last)
        raise AssertionError(f"it went through after {seen}")

    yard.until(ends)
    return seen


@table.shows("engine killed between `forward_backward` and `optim_step`")
def test_an_engine_killed_between_two_calls(row: Row, server: LocalServer, tmp_path: Path) -> None:
    with server, Client(server.key, server.url) as client, yard.bystander(client) as wrong:
        run = yard.trained(client, steps=2)
        run.forward_backward(yard.LESSON)
        yard.kill(server, "engine:")
        seen = refusals(run.optim_step, ConflictError)
        assert {error.status_code for error in seen} == set(row.statuses)
        assert [error.code for error in seen][:: len(seen) - 1] == list(row.codes)
        status = run.get_status()
        assert (status.current_step, status.durable_step, status.rolled_back) == (2, 2, None)
        assert refusals(run.optim_step, ConflictError)[0].code == "no_gradients"
        run.forward_backward(yard.LESSON)
        assert run.optim_step().step == 3
    assert wrong == []


def test_steps_that_a_crash_took_are_told_by_the_status(server: LocalServer) -> None:
    with server, Client(server.key, server.url) as client:
        run = client.create_run(base_model=yard.POCKET, lora_r=256, seed=3)  # over 16 MB: not written after each step
        for _ in range(3):
            run.forward_backward(yard.LESSON)
            run.optim_step()
        durable = run.get_status().durable_step
        assert durable < 3
        yard.kill(server, "engine:")
        yard.until(lambda: yard.is_back(server, "engine:"))
        yard.until(lambda: run.get_status().rolled_back is not None)
        status = run.get_status()
        assert status.rolled_back == {"from": 3, "to": durable}
        assert (status.current_step, status.durable_step) == (durable, durable)
        run.forward_backward(yard.LESSON)
        assert run.optim_step().step == durable + 1


@table.shows("engine killed during a stream")
def test_an_engine_killed_during_a_stream(row: Row, server: LocalServer, tmp_path: Path) -> None:
    with server, Client(server.key, server.url) as client, yard.bystander(client) as wrong:
        run = yard.trained(client, steps=1)
        pieces = run.sample_stream("The green", max_tokens=1500)
        next(pieces)
        yard.kill(server, "engine:")
        with pytest.raises(ServerError) as broken:
            list(pieces)
        assert broken.value.code == row.codes[0]
        yard.until(lambda: yard.is_back(server, "engine:"))
        assert run.sample(["The green"], max_tokens=4).outputs
        assert run.get_status().durable_step == 1
    assert wrong == []


@table.shows("engine dies five times in 60 s")
def test_an_engine_that_dies_again_and_again(row: Row, server: LocalServer, tmp_path: Path) -> None:
    with server, Client(server.key, server.url) as client, yard.bystander(client) as wrong:
        killed: set[int | None] = {None}
        for _ in range(5):
            yard.until(lambda: yard.child(server, "engine:").pid not in killed)
            killed.add(yard.kill(server, "engine:"))
        yard.until(lambda: yard.child(server, "engine:").state == "failed")
        ready = httpx.get(f"{server.url}/readyz")
        assert ready.status_code in row.statuses
        assert not ready.json()["checks"][f"engine:{yard.POCKET}"]["ok"]
        with pytest.raises(ServerError) as refused:
            client.generate("The green", model=yard.POCKET, max_new_tokens=4)
        assert (refused.value.status_code, refused.value.code) == (row.statuses[0], row.codes[0])
    assert wrong == []


@table.shows("whole server killed")
def test_a_whole_server_killed(row: Row, server: LocalServer, tmp_path: Path) -> None:
    with server:
        with Client(server.key, server.url) as client:
            run = yard.trained(client, steps=3)
            before = run.get_metrics()
            saved = run.save_state(mode="adapter")
        processes = yard.pids(server)
        assert len(processes) == 4  # supervisor, http, engine, zygote
        yard.kill_pid(server.pid)
        yard.until(lambda: not any(yard.is_alive(pid) for pid in processes), timeout_s=10)
        with pytest.raises(ConnectionError), Client(server.key, server.url) as gone:
            gone.list_runs()
        server.start()
        with Client(server.key, server.url) as client:
            again = client.runs.get(run.run_id)
            assert again.get_metrics() == before
            assert again.get_status().durable_step == 3
            [artifact] = again.list_artifacts()
            assert (again.download(artifact, tmp_path / "copy") / "adapter_config.json").is_file()
            assert Path(saved.local_path).is_dir()
            again.forward_backward(yard.LESSON)
            assert again.optim_step().step == 4


@table.shows("HTTP process killed")
def test_a_killed_http_process_leaves_the_engines_alone(row: Row, server: LocalServer, tmp_path: Path) -> None:
    with server, Client(server.key, server.url) as client:
        run = yard.trained(client, steps=1)
        run.forward_backward(yard.LESSON)
        engine = yard.child(server, "engine:").pid
        yard.kill(server, "http")
        yard.until(lambda: yard.is_back(server, "http"))
        assert run.optim_step().step == 2  # the gradients are still in the engine
        assert yard.child(server, "engine:").pid == engine


def refused_start(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run `trainyard up`, which has to end by itself with one line on standard error."""
    command = [sys.executable, "-m", "trainyard", "up", *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)
    assert done.stderr.count("\n") == 1, done.stderr
    return done


@table.shows("port taken at start")
def test_a_port_that_is_taken(row: Row, server: LocalServer, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = str(holder.getsockname()[1])
        done = refused_start("--port", port, "--data-dir", "data", cwd=tmp_path)
    assert done.returncode == row.exit_code
    assert port in done.stderr


@table.shows("data directory not writable")
def test_a_data_directory_that_cannot_be_written(row: Row, server: LocalServer, tmp_path: Path) -> None:
    done = refused_start("--port", "0", "--data-dir", "/proc/self/data", cwd=tmp_path)  # not even root can write there
    assert done.returncode == row.exit_code
    assert "/proc/self/data cannot be written" in done.stderr


@table.shows("second server on the same data directory")
def test_a_second_server_on_one_data_directory(row: Row, server: LocalServer, tmp_path: Path) -> None:
    with server:
        done = refused_start("--port", "0", "--data-dir", str(server.data_dir), cwd=tmp_path)
        assert done.returncode == row.exit_code
        assert f"pid {server.pid}" in done.stderr
        assert httpx.get(f"{server.url}/readyz").status_code == httpx.codes.OK


@table.shows("database written by a newer version")
def test_a_database_of_a_newer_version(row: Row, server: LocalServer, tmp_path: Path) -> None:
    path = server.data_dir / "trainyard.db"
    server.data_dir.mkdir()
    with closing(Database(f"sqlite:///{path}")) as database:
        database.migrate()
        with database.begin() as connection:
            connection.execute(text("UPDATE core_revision SET version_num = '9999'"))
    before = path.read_bytes()
    done = refused_start("--port", "0", "--data-dir", str(server.data_dir), cwd=tmp_path)
    assert done.returncode == row.exit_code
    assert "9999" in done.stderr
    assert path.read_bytes() == before


@table.shows("configuration wrong")
def test_a_wrong_configuration(row: Row, server: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "trainyard.yaml").write_text("server: {prot: 9000}\n")
    done = refused_start("--data-dir", "data", cwd=tmp_path)
    assert done.returncode == row.exit_code
    assert "'port'" in done.stderr or "server.port" in done.stderr
