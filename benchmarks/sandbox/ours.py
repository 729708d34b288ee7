"""Our side: a server of its own and the calls that are measured, over kept connections."""

import contextlib
import os
import urllib.parse
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from benchmarks.sandbox.calling import Caller
from trainyard.sdk.local_server import LocalServer

PRINT = "print(1)"
PANDAS = "import pandas as pd\nprint(pd.DataFrame({'a': range(1000)}).describe())"
FRAME_50_MB = "import numpy as np, pandas as pd\nframe = pd.DataFrame(np.random.default_rng(0).random((6_250_000, 1)))"

_BARS = {"REQUESTS": 1_000_000_000, "CONCURRENCY": 10_000}


@dataclass(frozen=True)
class Sandbox:
    """A running server and a client session of it."""

    server: LocalServer
    http: aiohttp.ClientSession
    exec: Caller

    async def run(self, code: str, session_id: str | None = None) -> dict[str, Any]:
        """Run code; in a session of its own, or in this one.

        Raises:
            RuntimeError: The answer is no 200, or the code failed.
        """
        body = {"lang": "py", "code": code} | ({"session_id": session_id} if session_id else {})
        status, answer = await self.exec.post(msgspec.json.encode(body))
        told: dict[str, Any] = msgspec.json.decode(answer)
        if status != 200 or told["exit_code"] != 0:
            raise RuntimeError(f"{status}: {told}")
        return told

    async def one_shot(self) -> None:
        """Print 1 in a fresh interpreter."""
        told = await self.run(PRINT)
        assert told["stdout"] == "1\n"

    async def pandas(self) -> None:
        """Describe a table in a fresh interpreter."""
        told = await self.run(PANDAS)
        assert "std" in told["stdout"]

    async def session(self, code: str) -> str:
        """Begin a session."""
        return str((await self.run(code))["session_id"])

    async def durable(self, session_id: str) -> None:
        """Have everything that the session holds written down: the export begins when it is; its bytes are not read."""
        async with self.http.get(f"/state/{session_id}") as answer:
            assert answer.status == 200, await answer.text()

    async def put_out(self, session_id: str) -> None:
        """End the interpreter of a session; its checkpoint stays."""
        async with self.http.post(f"/v1/admin/sandbox/sessions/{session_id}/kill") as answer:
            assert answer.status == 200, await answer.text()

    def memory_bytes(self) -> int:
        """Add up the proportional memory of every process of the sandbox."""
        return sum(_pss_bytes(pid) for pid in sandbox_pids(self.server.pid))


@contextlib.asynccontextmanager
async def running(directory: Path, packages: Path) -> AsyncIterator[Sandbox]:
    """Start a server without models and with the given packages."""
    catalog = directory / "models.yaml"
    catalog.write_text("models: [{name: echo, backend: fake}]\n")
    environment = {
        "TRAINYARD_MODELS_FILE": str(catalog),
        "TRAINYARD_SANDBOX__PACKAGES": str(packages),
        **{f"TRAINYARD_LIMITS__{name}": str(bar) for name, bar in _BARS.items()},
    }
    with LocalServer(directory / "data", environment=environment) as server:
        headers = {"X-API-Key": server.key}
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(server.url, headers=headers, connector=connector) as http:
            address = urllib.parse.urlsplit(server.url)
            caller = Caller(str(address.hostname), int(address.port or 80), "/exec", server.key)
            yield Sandbox(server, http, caller)
            caller.close()


def sandbox_pids(supervisor: int) -> list[int]:
    """Find the zygotes of a server and everything below them."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    zygotes = [pid for pid, parent in parents.items() if parent == supervisor and _is_zygote(pid)]
    return [pid for pid in parents if _descends(pid, zygotes, parents)]


def _descends(pid: int, roots: list[int], parents: dict[int, int]) -> bool:
    while pid and pid not in roots:
        pid = parents.get(pid, 0)
    return pid in roots


def _is_zygote(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"zygote" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _pss_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def load() -> float:
    """Give the load average of the last minute."""
    return os.getloadavg()[0]
