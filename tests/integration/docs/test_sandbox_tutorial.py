"""Tutorial 03 as it stands: its commands run in one shell, beside a server with the packages of the sandbox."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.sandbox.machine import serving
from trainyard.sdk.local_server import LocalServer

PAGE = (Path(__file__).resolve().parents[3] / "docs/tutorials/03-sandbox.md").read_text()
COMMANDS: list[tuple[str, str]] = re.findall(r"<!-- commands: (.+?) -->\n```bash\n(.+?)```", PAGE, re.DOTALL)
SAYS = {
    "once": [r"^Hello from [1-9]\d*\n42\n42 in bash\nexit code 1\nexit code 1\nexit code 124\n$"],
    "session": [r"(?m)^2 +S2 +1$", r"S1 +5\.0\nS2 +1\.0", r"delays\.png\n$"],
    "other": [r"^4 lines\nS1,6\nS2,1\n$"],
    "stays": [r"(?m)^.{21}\tadmin\ttrains\t[\d.]+ MiB\t", r" is ended\n3\nremoved: 0 sessions"],
    "limits": [r"^1\n2\nexit code [1-9]", r"eve.*/exec"],
}
"""What each block has to print."""


def shown_by(directory: Path, server: LocalServer) -> dict[str, str]:
    """Run all blocks in one shell, as a reader would, and tell what each printed."""
    script = "set -e\n" + "\n".join(f"echo '=== {name}'\n{commands}" for name, commands in COMMANDS)
    env = {**os.environ, "TRAINYARD_URL": server.url, "TRAINYARD_API_KEY": server.key}
    env |= {"PATH": f"{Path(sys.executable).parent}:{env['PATH']}", "TRAINYARD_DATA_DIR": str(server.data_dir)}
    done = subprocess.run(["bash"], input=script, cwd=directory, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    parts = re.split(r"^=== (\w+)$\n", done.stdout, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.timeout(300)
def test_the_tutorial_of_the_sandbox_works_as_it_stands(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    with serving("local", tmp_path) as server:
        shown = shown_by(work, server)
    missing = [(name, what) for name, wanted in SAYS.items() for what in wanted if not re.search(what, shown[name])]
    assert not missing, shown
    assert [name for name, _ in COMMANDS] == list(SAYS)
    assert (work / "made" / "delays.png").read_bytes().startswith(b"\x89PNG")
