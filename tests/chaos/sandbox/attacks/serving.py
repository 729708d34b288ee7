"""A server to attack over HTTP, with keys of two tenants."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from trainyard.sdk.local_server import LocalServer

_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Caller:
    """Somebody with a key."""

    http: httpx.Client

    def run(self, code: str, **fields: Any) -> dict[str, Any]:
        """Run code; it is not the server's fault whatever it does."""
        answer = self.http.post("/exec", json={"code": code, "lang": "py", **fields})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def is_well(self) -> None:
        """Find the server working."""
        assert self.run("print('well')")["stdout"] == "well\n"


@dataclass(frozen=True)
class Attacked:
    """A server, an attacker, and somebody of another tenant."""

    server: LocalServer
    attacker: Caller
    neighbour: Caller


@contextmanager
def attacked(home: Path) -> Iterator[Attacked]:
    """Start it; refused where a layer of isolation is missing."""
    catalog = home / "models.yaml"
    catalog.write_text("models: [{name: echo, backend: fake}]")
    environment = {
        "TRAINYARD_MODELS_FILE": str(catalog),
        "TRAINYARD_SANDBOX__ENABLED": "true",
        "TRAINYARD_SANDBOX__WARM": "3",
        "TRAINYARD_SANDBOX__WARM_SCIENCE": "0",
    }
    with LocalServer(home / "data", environment=environment) as server:
        callers = [Caller(_client(server, tenant)) for tenant in ("attackers", "neighbours")]
        yield Attacked(server, *callers)
        for caller in callers:
            caller.http.close()


def _client(server: LocalServer, tenant: str) -> httpx.Client:
    command = [sys.executable, "-m", "trainyard", "keys", "create", "--data-dir", str(server.data_dir), "--json"]
    options = ["--tenant", tenant, "--user", "somebody", "--scopes", "execute"]
    made = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    return httpx.Client(base_url=server.url, headers={"X-API-Key": json.loads(made.stdout)["key"]}, timeout=_TIMEOUT_S)
