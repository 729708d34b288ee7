"""The supervisor with real children: small Python programs that die, hang, refuse and multiply."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from trainyard.core import errors
from trainyard.core.processes import ChildSpec, ChildState, ChildStatus, CrashHistory, Supervisor, probes

SLEEPS = "import time; time.sleep(600)"
IGNORES_SIGTERM = (
    "import signal, time, pathlib, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "pathlib.Path(sys.argv[1]).touch(); time.sleep(600)"
)
HAS_A_CHILD = (
    "import subprocess, sys, time, pathlib;"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "pathlib.Path(sys.argv[1]).write_text(str(child.pid)); time.sleep(600)"
)


def python(code: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code, *arguments)


def quick() -> CrashHistory:
    return CrashHistory(first_delay_s=0.01)


@asynccontextmanager
async def supervised(*specs: ChildSpec) -> AsyncIterator[tuple[Supervisor, list[ChildStatus]]]:
    changes: list[ChildStatus] = []
    supervisor = Supervisor(on_change=changes.append, crashes=quick)
    for spec in specs:
        supervisor.add(spec)
    try:
        async with asyncio.timeout(60):
            yield supervisor, changes
            await supervisor.stop_all()
    finally:
        supervisor.kill_all()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_true():  # noqa: ASYNC110 - processes outside of this one do not tell
            await asyncio.sleep(0.01)


def pid_of(supervisor: Supervisor, name: str) -> int:
    pid = next(child.pid for child in supervisor.status() if child.name == name)
    assert pid is not None
    return pid


def states(changes: list[ChildStatus]) -> list[str]:
    return [change.state.value for change in changes]


async def test_a_child_is_idle_until_asked_for_then_ready_then_stopped() -> None:
    async with supervised(ChildSpec(name="a", argv=python(SLEEPS))) as (supervisor, changes):
        assert [child.state for child in supervisor.status()] == [ChildState.IDLE]
        await supervisor.ensure("a")
        pid = pid_of(supervisor, "a")
        assert is_alive(pid)
        await supervisor.stop("a")
        assert not is_alive(pid)
    assert states(changes) == ["starting", "ready", "stopping", "stopped"]


async def test_a_stopped_child_can_be_started_again() -> None:
    async with supervised(ChildSpec(name="a", argv=python(SLEEPS))) as (supervisor, _):
        await supervisor.ensure("a")
        await supervisor.stop("a")
        await supervisor.ensure("a")
        assert is_alive(pid_of(supervisor, "a"))


async def test_a_killed_child_comes_back() -> None:
    async with supervised(ChildSpec(name="a", argv=python(SLEEPS))) as (supervisor, changes):
        await supervisor.ensure("a")
        first = pid_of(supervisor, "a")
        os.kill(first, signal.SIGKILL)
        await supervisor.wait_for("a", {ChildState.WAITING})
        await supervisor.ensure("a")
        assert pid_of(supervisor, "a") != first
        assert supervisor.status()[0].restarts == 1
    assert "killed by SIGKILL" in {change.reason for change in changes}


async def test_five_crashes_in_a_minute_are_a_failure_and_not_a_spin() -> None:
    async with supervised(ChildSpec(name="a", argv=python("raise SystemExit(3)"), ready=never)) as (
        supervisor,
        changes,
    ):
        with pytest.raises(errors.Unavailable, match="5 crashes in 60 s, the last: exit status 3"):
            await supervisor.ensure("a")
        assert supervisor.status()[0].restarts == 4
        await asyncio.sleep(0.2)
        assert supervisor.status()[0].state is ChildState.FAILED
    assert states(changes).count("waiting") == 4


async def never() -> bool:
    return False


@pytest.mark.parametrize(
    ("argv", "reason"),
    [(python("raise SystemExit(78)"), "exit status 78"), (("/nowhere/program",), "exit status 1")],
)
async def test_a_child_says_why_it_failed(argv: tuple[str, ...], reason: str) -> None:
    async with supervised(ChildSpec(name="a", argv=argv, ready=never)) as (supervisor, _):
        with pytest.raises(errors.Unavailable, match=reason):
            await supervisor.ensure("a")


async def test_a_child_that_cannot_succeed_is_not_started_again() -> None:
    async with supervised(ChildSpec(name="a", argv=python("raise SystemExit(78)"), ready=never)) as (
        supervisor,
        changes,
    ):
        await supervisor_failure(supervisor)
    assert states(changes) == ["starting", "failed"]


async def supervisor_failure(supervisor: Supervisor) -> None:
    supervisor.start("a")
    await supervisor.wait_for("a", {ChildState.FAILED})


async def test_a_child_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    marker = tmp_path / "deaf"
    spec = ChildSpec(name="a", argv=python(IGNORES_SIGTERM, str(marker)), grace_s=0.2)
    async with supervised(spec) as (supervisor, _):
        await supervisor.ensure("a")
        await until(marker.exists)
        pid = pid_of(supervisor, "a")
        await supervisor.stop("a")
        assert not is_alive(pid)


async def test_what_a_child_started_goes_with_it(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    async with supervised(ChildSpec(name="a", argv=python(HAS_A_CHILD, str(marker)))) as (supervisor, _):
        await supervisor.ensure("a")
        await until(lambda: marker.exists() and marker.read_text() != "")
        grandchild = int(marker.read_text())
        assert is_alive(grandchild)
        await supervisor.stop("a")
        await until(lambda: not is_alive(grandchild))


async def test_a_child_that_is_never_ready_is_killed_and_counts_as_crashed() -> None:
    spec = ChildSpec(name="a", argv=python(SLEEPS), ready=never, start_timeout_s=0.1)
    async with supervised(spec) as (supervisor, _):
        supervisor.start("a")
        await supervisor.wait_for("a", {ChildState.WAITING})
        assert supervisor.status()[0].reason == "not ready after 0.1 s"


async def test_a_child_reads_its_standard_input_and_writes_its_log(tmp_path: Path) -> None:
    code = "import sys, time; print('got', sys.stdin.read(), flush=True); time.sleep(600)"
    log = tmp_path / "logs" / "a.log"
    big = b"x" * 200_000
    async with supervised(ChildSpec(name="a", argv=python(code), stdin=big, log=log)) as (supervisor, _):
        await supervisor.ensure("a")
        await until(lambda: log.stat().st_size >= 200_005)
    assert log.read_bytes() == b"got " + big + b"\n"


async def test_the_environment_of_a_child_is_the_given_one(tmp_path: Path) -> None:
    code = "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(' '.join(sorted(os.environ)))"
    marker = tmp_path / "environment"
    spec = ChildSpec(name="a", argv=python(code, str(marker)), env={"ONLY": "1", "PYTHONHASHSEED": "0"})
    async with supervised(spec) as (supervisor, _):
        supervisor.start("a")
        await until(lambda: marker.exists() and "ONLY" in marker.read_text())
    assert {"ONLY", "PYTHONHASHSEED"} <= set(marker.read_text().split())
    assert "HOME" not in marker.read_text().split()


async def test_children_are_stopped_in_the_given_order() -> None:
    specs = [ChildSpec(name=name, argv=python(SLEEPS)) for name in ("a", "b", "c")]
    async with supervised(*specs) as (supervisor, changes):
        await asyncio.gather(*(supervisor.ensure(name) for name in "abc"))
        await supervisor.stop_all([["c"], ["a"]])
    assert [change.name for change in changes if change.state is ChildState.STOPPED] == ["c", "a", "b"]


async def test_stopping_while_a_child_waits_for_its_next_start_is_immediate() -> None:
    supervisor = Supervisor(crashes=lambda: CrashHistory(first_delay_s=60))
    supervisor.add(ChildSpec(name="a", argv=python("raise SystemExit(1)"), ready=never))
    supervisor.start("a")
    await supervisor.wait_for("a", {ChildState.WAITING})
    before = time.monotonic()
    await supervisor.stop("a")
    assert time.monotonic() - before < 2
    assert supervisor.status()[0].state is ChildState.STOPPED


async def test_an_unknown_child_is_not_found() -> None:
    async with supervised(ChildSpec(name="a", argv=python(SLEEPS))) as (supervisor, _):
        with pytest.raises(errors.NotFound, match="known: a"):
            await supervisor.ensure("b")


SUPERVISES = """
import asyncio, sys
from trainyard.core.processes import ChildSpec, Supervisor
async def main():
    supervisor = Supervisor(on_change=lambda status: print(status.state.value, status.pid, flush=True))
    for name in ("a", "b"):
        supervisor.add(ChildSpec(name=name, argv=(sys.executable, "-c", "import time; time.sleep(600)")))
        await supervisor.ensure(name)
    await asyncio.sleep(600)
asyncio.run(main())
"""


async def test_kill_9_of_the_supervisor_leaves_no_process_behind() -> None:
    process = await asyncio.create_subprocess_exec(*python(SUPERVISES), stdout=subprocess.PIPE)
    assert process.stdout is not None
    pids: list[int] = []
    async with asyncio.timeout(30):
        while len(pids) < 2:
            state, _, pid = (await process.stdout.readline()).decode().partition(" ")
            if state == "ready":
                pids.append(int(pid))
    assert all(map(is_alive, pids))
    process.kill()
    await process.wait()
    await until(lambda: not any(map(is_alive, pids)))


def test_a_child_whose_parent_is_gone_before_it_is_bound_does_not_run(tmp_path: Path) -> None:
    from trainyard.core.processes import child

    marker = tmp_path / "ran"
    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).touch()"
    not_our_pid = "1" if os.getpid() != 1 else "2"
    argv = (sys.executable, "-I", "-S", str(child.__file__), not_our_pid, *python(code, str(marker)))
    assert subprocess.run(argv, check=False).returncode == 0
    assert not marker.exists()
    argv = (sys.executable, "-I", "-S", str(child.__file__), str(os.getpid()), *python(code, str(marker)))
    assert subprocess.run(argv, check=False).returncode == 0
    assert marker.exists()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_a_probe_of_a_socket_does_not_take_a_dead_file_for_an_answer(tmp_path: Path) -> None:
    path = tmp_path / "s"
    probe = probes.unix_socket(path)
    assert not await probe()
    server = await asyncio.start_unix_server(hang_up, path)
    assert await probe()
    server.close()
    await server.wait_closed()
    assert not await probe()


@pytest.mark.parametrize(
    ("answer", "is_ready"), [(b"HTTP/1.1 200 OK", True), (b"HTTP/1.1 503 No", False), (b"", False)]
)
async def test_a_probe_over_http_wants_a_200(answer: bytes, is_ready: bool) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readline()) == b"GET /healthz HTTP/1.1\r\n"
        writer.write(answer + b"\r\n\r\n")
        await hang_up(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await probes.http("127.0.0.1", port, "/healthz")() is is_ready
    server.close()
    await server.wait_closed()
    assert not await probes.http("127.0.0.1", port, "/healthz")()
