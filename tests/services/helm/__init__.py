"""Charts without Helm, which no package index has: their templates go through the engine that Helm is made on."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.services import require

_PROGRAM = Path(__file__).with_name("render.go")


def built(directory: Path) -> Path:
    """Compile the renderer; ends the test where there is no Go."""
    if shutil.which("go") is None:
        require.missing("Go (go)", "apt-get install golang-go")
    program = directory / "render"
    env = {**os.environ, "GOCACHE": str(directory / "cache"), "GOTOOLCHAIN": "local", "GO111MODULE": "off"}
    subprocess.run(["go", "build", "-o", str(program), str(_PROGRAM)], check=True, env=env, timeout=110)
    return program


def render(program: Path, chart: Path, values: dict[str, Any], *, name: str, namespace: str) -> dict[str, str]:
    """Give what the templates of a chart become, by file name."""
    files = {path.name: path.read_text() for path in sorted((chart / "templates").iterdir())}
    data = {"Values": values, "Release": {"Name": name, "Namespace": namespace, "Service": "Helm"}}
    done = subprocess.run(
        [str(program)], input=json.dumps({"files": files, "data": data}), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    rendered: dict[str, str] = json.loads(done.stdout)
    return rendered


def objects(rendered: dict[str, str]) -> list[dict[str, Any]]:
    """Give the objects of what was rendered, notes left out."""
    texts = (text for name, text in rendered.items() if name.endswith(".yaml"))
    return [each for text in texts for each in yaml.safe_load_all(text) if each is not None]
