import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from trainyard.testing.plugin import LiveServer

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = re.compile(r"<!-- example: (?P<name>.+?) -->\n```python\n(?P<code>.+?)```", re.DOTALL)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = [
    pytest.param(found["code"], id=f"{page.stem}: {found['name']}")
    for page in PAGES
    for found in EXAMPLE.finditer(page.read_text())
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_the_examples_of_the_documents_run_as_they_stand(code: str, live_server: LiveServer, tmp_path: Path) -> None:
    env = {**os.environ, "TRAINYARD_URL": live_server.url, "TRAINYARD_API_KEY": live_server.key}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_there_is_an_example_for_every_capability() -> None:
    names = " ".join(str(example.id) for example in EXAMPLES)
    assert all(
        word in names for word in ("README: train", "README: serve", "README: sandbox", "01-train", "03-sandbox")
    )
