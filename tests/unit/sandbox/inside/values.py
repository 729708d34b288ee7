"""A namespace as the interpreter has one, for tests of what becomes of its values."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from trainyard.sandbox.inside import state


def fresh(code: str = "") -> dict[str, Any]:
    """Make a namespace and run code in it."""
    namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": __builtins__}
    exec(code, namespace)  # noqa: S102 - it stands for the code of a run
    return namespace


def dump(namespace: dict[str, Any], skip: Collection[str], path: Path, max_bytes: int) -> dict[str, Any]:
    """Dump into a file that takes its name when it is whole, as the runner has it done: the last may be mapped."""
    new = path.with_name("new")
    with new.open("wb") as file:
        try:
            return state.dump(namespace, skip, file.fileno(), max_bytes)
        finally:
            new.replace(path)


def through(code: str, path: Path, max_bytes: int = 64 << 20) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Dump what code defines and load it elsewhere; gives the new namespace and both reports."""
    dumped = dump(fresh(code), (), path, max_bytes)
    namespace = fresh()
    return namespace, dumped, state.load(namespace, path)


def reasons(report: dict[str, Any]) -> dict[str, str]:
    """Give what was dropped, by name."""
    return {entry["name"]: entry["reason"] for entry in report["dropped"]}
