"""One operating-system process of a child: spawned so that it dies with us, stopped with grace."""

import asyncio
import contextlib
import os
import signal
import sys

from trainyard.core.processes import child as trampoline
from trainyard.core.processes import logs
from trainyard.core.processes.specs import ChildSpec


async def spawn(spec: ChildSpec) -> asyncio.subprocess.Process:
    """Start a child in a session of its own, so that Ctrl-C reaches the supervisor alone; raises OSError."""
    argv = (sys.executable, "-I", "-S", str(trampoline.__file__), str(os.getpid()), *spec.argv)
    with logs.appended(spec.log) as output:
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
