"""scripts/perf_test.py against a real server: every block has times, and nothing stays behind."""

import json
import subprocess
import sys
from pathlib import Path

from trainyard import Client
from trainyard.sdk.local_server import LocalServer

ROOT = Path(__file__).parents[3]


def test_the_five_measurements_are_made_and_leave_nothing(tmp_path: Path) -> None:
    catalog = tmp_path / "models.yaml"
    catalog.write_text("models: [{name: echo, backend: fake}]")
    environment = {"TRAINYARD_MODELS_FILE": str(catalog), "TRAINYARD_SANDBOX__ALLOW_WEAKER": "true"}
    with LocalServer(tmp_path / "data", environment=environment) as server, Client(server.key, server.url) as client:
        command = [sys.executable, str(ROOT / "scripts" / "perf_test.py"), "--url", server.url, "--key", server.key]
        ended = subprocess.run([*command, "--rounds", "2", "--json"], capture_output=True, text=True, check=False)
        told = json.loads(ended.stdout)
        # NumPy is there when somebody has set up the packages of the sandbox
        failure = told.pop("complex").get("failure")
        assert failure in (None, "ModuleNotFoundError: No module named 'numpy'")
        assert ended.returncode == (0 if failure is None else 1)
        assert {name: block["requests"] for name, block in told.items()} == {
            "simple": 2,
            "concurrent": 20,
            "state": 2,
            "upload": 2,
            "download": 2,
        }
        assert all(block["mean_ms"] > 0 for block in told.values())
        assert client.sandbox.sessions() == []
