"""The tests of the gateway once more, as they run against a deployed server: from outside, by `API_BASE`."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trainyard.sdk.local_server import LocalServer

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "limits: {window_s: 1.5}\n"
RUN_S = 200.0


@pytest.mark.skipif("API_BASE" in os.environ, reason="the tests of the gateway run against that server themselves")
@pytest.mark.timeout(300)
def test_the_tests_of_the_gateway_pass_against_a_live_server(tmp_path: Path) -> None:
    (tmp_path / "trainyard.yaml").write_text(CONFIG, encoding="utf-8")
    with LocalServer(tmp_path / "data", arguments=("--config", str(tmp_path / "trainyard.yaml"))) as server:
        ran = subprocess.run(
            [sys.executable, "-m", "pytest", "tests/integration/gateway", "-q", "--no-header"],
            cwd=ROOT,
            env={**os.environ, "API_BASE": server.url, "TRAINYARD_API_KEY": server.key},
            capture_output=True,
            text=True,
            timeout=RUN_S,
            check=False,
        )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
    summary = ran.stdout.strip().splitlines()[-1]
    found = re.search(r"(\d+) passed", summary)
    assert found is not None
    assert int(found[1]) > 150
    assert "skipped" not in summary
