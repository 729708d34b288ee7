"""Process trees that are measured: started on a free port, asked until they answer, stopped by their pid."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_START_S = 120.0
_STOP_S = 20.0
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Tree:
    """A running server and all that it started."""

    pid: int
    port: int

    def cpu_s(self) -> float:
        """Add up user and system seconds of all its processes that live."""
        parents, seconds = {}, {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it has just ended
                fields = stat.read_text().rpartition(")")[2].split()
                pid = int(stat.parent.name)
                parents[pid], seconds[pid] = int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS
        return sum(seconds[pid] for pid in seconds if self._is_mine(pid, parents))

    def _is_mine(self, pid: int, parents: Mapping[int, int]) -> bool:
        while pid and pid != self.pid:
            pid = parents.get(pid, 0)
        return pid == self.pid


def free_port() -> int:
    """Find a port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    command: Sequence[str], port: int, log: Path, *, path: str | None = None, env: Mapping[str, str] | None = None
) -> Iterator[Tree]:
    """Start a server and wait until it answers; ended with its children when the block is left.

    Args:
        command: What to run.
        port: On which it listens.
        log: Gets what it prints.
        path: Asked until it answers with 200; None waits for the port alone.
        env: Beside the environment of this process.

    Raises:
        RuntimeError: It ended, or did not answer in time; the message holds the end of its log.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=_ROOT,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        ends_at = time.monotonic() + _START_S
        while not _answers(port, path):
            if process.poll() is not None or time.monotonic() > ends_at:
                raise RuntimeError(f"{command[0]} did not come up: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        yield Tree(process.pid, port)
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def python(module: str, *arguments: object) -> list[str]:
    """Make the command that runs a module of ours."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def _answers(port: int, path: str | None) -> bool:
    try:
        if path is None:
            socket.create_connection(("127.0.0.1", port), 1).close()
        else:
            urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5).close()
    except (OSError, urllib.error.URLError):
        return False
    return True
