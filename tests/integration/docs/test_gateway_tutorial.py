"""Tutorial 02 as it stands: its files written, its commands run in one shell, beside a server and a mock."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trainyard.core import settings
from trainyard.sdk.local_server import LocalServer
from trainyard.testing import MockServer, in_thread

PAGE = (Path(__file__).resolve().parents[3] / "docs/tutorials/02-a-gateway-for-a-team.md").read_text()
FILES = dict(re.findall(r"<!-- file: (.+?) -->\n```yaml\n(.+?)```", PAGE, re.DOTALL))
COMMANDS: list[tuple[str, str]] = re.findall(r"<!-- commands: (.+?) -->\n```bash\n(.+?)```", PAGE, re.DOTALL)

SAYS = {
    "models": [r"remote\s+openai\s+[\d.]+\s+ok", r'"model":"remote","output"', r'"model":"trainyard/pocket","output"'],
    "keys": [r"lab\s+ada\s+generate\s+active\s+3 requests", r"200 2\n200 1\n200 0\n429 0\n", "rate_limit_exceeded"],
    "quota": [r'(.*"output".*\n){2}.*"quota_exhausted"'],
    "cache": [r'"cached":false}  miss\n.*"cached":true}  hit\n', r"\n(?P<first>{.*})  \n(?P=first)  true\n"],
    "forms": [r'"content":"{\\"town\\":\\"Ba?[a-z]+\\",\\"track\\":\d+}"', r'"name":"departures"', '"tool_calls"'],
    "usage": [r"key\s+3 / 60 s\s+20,000 / 60 s\s+2", r"lab\s+bob\s+trainyard/pocket\s+2\s", r"key_id,day,requests"],
    "reload": [r"echo\s+available\s+fake", r'"model":"echo"'],
}
"""What each block has to print."""


def shown_by(directory: Path, server: LocalServer) -> dict[str, str]:
    """Run all blocks in one shell, as a reader would, and tell what each printed."""
    script = "set -e\n" + "\n".join(f"echo '=== {name}'\n{commands}" for name, commands in COMMANDS)
    env = {**os.environ, "TRAINYARD_URL": server.url, "TRAINYARD_API_KEY": server.key}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    done = subprocess.run(["bash"], input=script, cwd=directory, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    parts = re.split(r"^=== (\w+)$", done.stdout, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.timeout(300)
def test_the_tutorial_of_the_gateway_works_as_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the server reads trainyard.yaml where it is started
    with in_thread(MockServer()) as mock:
        (tmp_path / "models.yaml").write_text(FILES["models.yaml"].replace("http://127.0.0.1:8001", mock.url))
        (tmp_path / "trainyard.yaml").write_text(FILES["trainyard.yaml"])
        with LocalServer(tmp_path / ".trainyard") as server:
            shown = shown_by(tmp_path, server)
            log = server.log.read_text()
    missing = [(name, what) for name, wanted in SAYS.items() for what in wanted if not re.search(what, shown[name])]
    assert not missing, shown
    assert "did you mean 'fallbacks'?" in log
    assert [name for name, _ in COMMANDS] == list(SAYS)


def test_the_settings_of_several_processes_are_valid(tmp_path: Path) -> None:
    file = tmp_path / "trainyard.yaml"
    file.write_text(FILES["trainyard.yaml of several processes"])
    assert settings.load(config_file=file, environ={}).server.workers == 4
