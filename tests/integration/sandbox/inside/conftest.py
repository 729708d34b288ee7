import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped] # it has no types
import pytest

import trainyard
from tests.integration.sandbox.inside import science_worker
from tests.services.packages import require_packages


class Science:
    """A process of the sandbox's environment."""

    def __init__(self, libraries: Path) -> None:
        (libraries / "cloudpickle").symlink_to(Path(cloudpickle.__file__).parent)
        (libraries / "trainyard").symlink_to(Path(trainyard.__file__).parent)
        python = require_packages() / "bin" / "python3"
        self.process = subprocess.Popen(
            [python, science_worker.__file__, str(libraries)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=libraries,
        )

    def ask(self, name: str, *arguments: str) -> Any:
        """Call a method of the worker."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def run(self, code: str) -> list[dict[str, Any]]:
        """Run a cell; gives its results."""
        results: list[dict[str, Any]] = self.ask("run", code)
        return results

    def close(self) -> None:
        """End it."""
        with self.process:
            self.process.kill()


@pytest.fixture(scope="module")
def science_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Science]:
    process = Science(tmp_path_factory.mktemp("libraries"))
    yield process
    process.close()


@pytest.fixture
def science(science_process: Science, tmp_path: Path) -> Science:
    """A fresh namespace in the workspace `tmp_path`."""
    science_process.ask("begin", str(tmp_path))
    return science_process
