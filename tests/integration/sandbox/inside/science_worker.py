"""Runs cells beside numpy, pandas and matplotlib: JSON in, JSON out, a line each. Started by `conftest`."""

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path[:0] = sys.argv[1:]
os.environ["MPLBACKEND"] = "Agg"

from trainyard.sandbox.inside import display, state, variables  # noqa: E402


class Worker:
    """One namespace after the other."""

    def begin(self, workspace: str) -> None:
        """Begin anew in a workspace."""
        os.chdir(workspace)
        self.capture = display.Capture(Path(workspace))
        self.namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}

    def run(self, code: str) -> list[dict[str, Any]]:
        """Run a cell; gives its results."""
        body, last = display.compiled(code, "<cell>")
        exec(body, self.namespace)  # noqa: S102 - it stands for the code of a run
        value = eval(last, self.namespace) if last is not None else None  # noqa: S307
        return self.capture.results(self.namespace, value, last is not None)

    def fail(self, code: str) -> list[dict[str, Any]]:
        """Run a cell that fails at its end; gives its results."""
        exec(code, self.namespace)  # noqa: S102 - it stands for the code of a run
        return self.capture.discard()

    def listing(self) -> list[dict[str, Any]]:
        """List the variables."""
        return variables.listing(self.namespace, ())

    def dump(self, path: str) -> dict[str, Any]:
        """Write a checkpoint."""
        new = Path(f"{path}.new")
        with new.open("wb") as file:
            dumped = state.dump(self.namespace, (), file.fileno(), 256 << 20)
        new.replace(path)
        return dumped

    def load(self, path: str) -> dict[str, Any]:
        """Read a checkpoint."""
        return state.load(self.namespace, path)


if __name__ == "__main__":
    worker = Worker()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        sys.__stdout__.write(json.dumps(getattr(worker, name)(*arguments)) + "\n")  # type: ignore[union-attr] # it is open
        sys.__stdout__.flush()  # type: ignore[union-attr] # it is open
