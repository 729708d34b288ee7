"""`trainyard up --json` as a real process over a catalog of fake models."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

CATALOG = """
models:
  - {name: fake/eager, backend: fake, load: eager}
  - {name: fake/lazy, backend: fake, load: lazy}
"""


class UpProcess:
    """One running server and the JSON lines that it printed so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []

    async def until(self, **facts: object) -> dict[str, Any]:
        """Read lines until one has these facts."""
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            while raw := await self.process.stdout.readline():
                self.lines.append(json.loads(raw))
                if facts.items() <= self.lines[-1].items():
                    return self.lines[-1]
        raise AssertionError(f"it ended before it said {facts}; it said {self.lines}")

    async def ready(self) -> dict[str, Any]:
        """Wait until HTTP and the eager engine are ready; gives the first line."""
        waiting = {"http", "engine:fake/eager"}
        while waiting:
            line = await self.until(event="child", state="ready")
            waiting.discard(line["name"])
        return self.lines[0]

    def stop_reading(self) -> None:
        """Close this end of its standard output."""
        transport = self.process._transport  # type: ignore[attr-defined]  # asyncio has no public way
        transport.get_pipe_transport(1).close()

    async def end(self, number: int) -> int:
        """Send a signal and wait for the exit status; what was printed meanwhile is kept."""
        self.process.send_signal(number)
        return await self.wait()

    async def wait(self) -> int:
        """Wait for the exit status; what was printed meanwhile is kept."""
        async with asyncio.timeout(60):
            output, _ = await self.process.communicate()
        self.lines += [json.loads(line) for line in output.splitlines()]
        assert self.process.returncode is not None
        return self.process.returncode


def command(data_dir: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "trainyard", "up", "--json", "--data-dir", str(data_dir), *more]


def write_catalog(path: Path) -> None:
    path.write_text(CATALOG)


@contextlib.asynccontextmanager
async def up(data_dir: Path, catalog: Path) -> AsyncIterator[UpProcess]:
    write_catalog(catalog)
    environment = {**os.environ, "TRAINYARD_MODELS_FILE": str(catalog)}
    process = await asyncio.create_subprocess_exec(
        *command(data_dir, "--port", "0"), env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield UpProcess(process)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.wait()
