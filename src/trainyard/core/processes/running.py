"""One operating-system process of a child: spawned so that it dies with us, stopped with grace."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from trainyard.core.processes import child as trampoline
from trainyard.core.processes.specs import ChildSpec

_LOG_BYTES = 10 * 1024 * 1024


@contextlib.contextmanager
def _output(path: Path | None) -> Iterator[IO[bytes] | None]:
    """Open a log for appending; one that is over 10 MB becomes `NAME.1` first."""
    if path is None:
        yield None
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists() and path.stat().st_size > _LOG_BYTES:
        path.replace(path.with_name(path.name + ".1"))
    with path.open("ab") as file:
        yield file


async def spawn(spec: ChildSpec) -> asyncio.subprocess.Process:
    """Start a child in a session of its own, so that Ctrl-C reaches the supervisor alone; raises OSError."""
    argv = (sys.executable, "-I", "-S", str(trampoline.__file__), str(os.getpid()), *spec.argv)
    with _output(spec.log) as output:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env=spec.env,
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=output,
            pass_fds=spec.pass_fds,
            start_new_session=True,
        )
    assert process.stdin is not None
    with contextlib.suppress(ConnectionError):  # it ended before it read; its exit status tells
        process.stdin.write(spec.stdin)
        await process.stdin.drain()
    process.stdin.close()
    return process


async def stop(process: asyncio.subprocess.Process, grace_s: float) -> int:
    """Ask with SIGTERM, force with SIGKILL after the grace; returns the exit status."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(grace_s):
            return await process.wait()
    except TimeoutError:
        kill(process)
        return await process.wait()


def kill(process: asyncio.subprocess.Process) -> None:
    """Kill the process and what it started in its session, also when the process itself has ended by now."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def describe_exit(status: int) -> str:
    """Say how a process ended."""
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
