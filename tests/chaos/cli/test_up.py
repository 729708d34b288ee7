"""The life of `trainyard up`: start, crash of a child, second start, drain, and death."""

import asyncio
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.chaos.cli.up_process import command, up
from trainyard.core.processes import ChildState, ChildStatus, ControlClient, RunFile, runfile


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def run_file(data_dir: Path) -> RunFile:
    found = runfile.read(data_dir / "run.json")
    assert found is not None
    return found


def pids(run: RunFile) -> dict[str, int]:
    return {child.name: child.pid for child in run.children if child.pid is not None}


def child_of(run: RunFile, name: str) -> ChildStatus:
    return next(child for child in run.children if child.name == name)


def check_sockets(run: RunFile) -> None:
    assert Path(run.sockets["engine:fake/eager"]).is_socket()
    assert Path(run.socket_directory).stat().st_mode & 0o777 == 0o700


def exists(path: Path) -> bool:
    return path.exists()


def refused(arguments: list[str], **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        arguments, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stderr.count("\n") == 1
    return done.returncode, done.stderr


async def all_gone(wanted: list[int]) -> None:
    async with asyncio.timeout(20):
        while any(map(is_alive, wanted)):  # noqa: ASYNC110 - processes outside of this one do not tell
            await asyncio.sleep(0.02)


async def test_a_server_starts_heals_and_drains(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with up(data_dir, tmp_path / "models.yaml") as server:
        first = await server.ready()
        assert first["admin_key"].startswith("sk-")
        assert first["models"] == {"fake/eager": "eager", "fake/lazy": "lazy"}

        run = run_file(data_dir)
        assert (run.pid, run.url) == (server.process.pid, first["url"])
        assert set(pids(run)) == {"http", "engine:fake/eager", "zygote:lean"}
        check_sockets(run)

        code, line = await asyncio.to_thread(refused, command(data_dir, "--port", "0"))
        assert code == 9
        assert f"in use by the server with pid {run.pid}" in line

        os.kill(pids(run)["engine:fake/eager"], signal.SIGKILL)
        died = await server.until(name="engine:fake/eager", state="waiting")
        assert died["reason"] == "killed by SIGKILL"
        await server.until(name="engine:fake/eager", state="ready")

        control = ControlClient(Path(run.control_socket))
        await control.ensure("engine:fake/lazy")
        lazy = next(child for child in (await control.status()).children if child.name == "engine:fake/lazy")
        assert lazy.state is ChildState.READY

        before = pids(run_file(data_dir))
        assert set(before) == {"http", "engine:fake/eager", "engine:fake/lazy", "zygote:lean"}
        assert await server.end(signal.SIGTERM) == 0
        stopped = [line["name"] for line in server.lines if line.get("state") == "stopped"]
        assert stopped[0] == "http"
        assert len(stopped) == 4
        assert not any(map(is_alive, before.values()))
    assert not exists(data_dir / "run.json")
    assert not exists(Path(run.socket_directory))


async def test_a_reader_that_goes_away_and_a_run_file_that_cannot_be_written_do_not_end_the_watch(
    tmp_path: Path,
) -> None:
    data_dir = tmp_path / "data"
    async with up(data_dir, tmp_path / "models.yaml") as server:
        await server.ready()
        run = run_file(data_dir)
        server.stop_reading()
        (data_dir / f".run.json.{run.pid}").mkdir()  # where the next run file would be built
        os.kill(pids(run)["engine:fake/eager"], signal.SIGKILL)
        await all_gone([pids(run)["engine:fake/eager"]])
        control = ControlClient(Path(run.control_socket))
        async with asyncio.timeout(20):
            while child_of(await control.status(), "engine:fake/eager").restarts == 0:  # noqa: ASYNC110 - as all_gone
                await asyncio.sleep(0.02)
            await control.ensure("engine:fake/eager")
        assert child_of(await control.status(), "engine:fake/eager").state is ChildState.READY
        server.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await server.process.wait() == 0


async def test_kill_9_leaves_no_process_behind_and_the_next_start_is_clean(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with up(data_dir, tmp_path / "models.yaml") as server:
        await server.ready()
        run = run_file(data_dir)
        await server.end(signal.SIGKILL)
        await all_gone(list(pids(run).values()))
    async with up(data_dir, tmp_path / "models.yaml") as server:
        again = await server.ready()
        assert again["admin_key"] is None
        assert not exists(Path(run.socket_directory))
        assert await server.end(signal.SIGTERM) == 0


async def test_the_second_interrupt_stops_a_drain_at_once(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with up(data_dir, tmp_path / "models.yaml") as server:
        first = await server.ready()
        host, _, port = first["url"].removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST /v1/generate HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {first['admin_key']}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode()
        )
        await writer.drain()
        await asyncio.sleep(0.5)  # the request has to be running; nothing tells that from outside
        children = list(pids(run_file(data_dir)).values())
        server.process.send_signal(signal.SIGINT)
        await server.until(event="draining")
        await asyncio.sleep(0.5)
        assert server.process.returncode is None
        before = time.monotonic()
        assert await server.end(signal.SIGINT) == 130
        assert time.monotonic() - before < 10
        await all_gone(children)
        writer.close()
        await asyncio.wait([asyncio.ensure_future(writer.wait_closed())])
        assert await reader.read() == b""


async def test_when_the_http_process_cannot_be_kept_the_server_ends(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with up(data_dir, tmp_path / "models.yaml") as server:
        await server.ready()
        (data_dir / "trainyard.db").unlink()
        (data_dir / "trainyard.db").mkdir()
        for _ in range(5):
            if (pid := pids(run_file(data_dir)).get("http")) is not None:
                os.kill(pid, signal.SIGKILL)
            line = await server.until(event="child", name="http")
            while line["state"] not in ("waiting", "failed"):
                line = await server.until(event="child", name="http")
            if line["state"] == "failed":
                break
        assert await server.wait() == 9


@pytest.fixture
def taken_port() -> object:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_a_taken_port_is_one_clear_line(tmp_path: Path, taken_port: int) -> None:
    code, line = refused(command(tmp_path / "data", "--port", str(taken_port)))
    assert code == 9
    assert f"port {taken_port}" in line
    assert "choose another --host or --port" in line


def test_a_data_directory_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, line = refused(command(tmp_path / "file" / "data"))
    assert code == 9
    assert "choose another with --data-dir" in line


def test_a_bad_setting_is_one_clear_line(tmp_path: Path) -> None:
    code, line = refused(command(tmp_path / "data"), TRAINYARD_SERVER__PORT="many")
    assert code == 2
    assert "server.port" in line
