"""Where the zygotes of one server are, and what each is told."""

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from trainyard.core import errors
from trainyard.core.settings import SandboxSettings, Settings
from trainyard.sandbox.inside import bubblewrap, zygote
from trainyard.sandbox.inside.lockdown.limits import Limits
from trainyard.sandbox.inside.zygote.assignment import Assignment
from trainyard.sandbox.types.orders import Flavor

FLAVORS: Final[tuple[Flavor, ...]] = ("lean", "science")
_PROGRAMS: Final = {
    name: Path(*package.__path__, "__main__.py")
    for name, package in {"local": zygote, "bubblewrap": bubblewrap}.items()
}
KINDS: Final = tuple(_PROGRAMS)
"""Values of `sandbox.backend` that have zygotes."""
_UIDS_PER_ZYGOTE: Final = 32_768
_SPOOL_RESERVE_BYTES: Final = 32 << 20
_SEEN: Final = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")


def socket_of(directory: Path, flavor: Flavor) -> Path:
    """Where the zygote of a flavour listens."""
    return directory / f"zygote-{flavor}.sock"


def command(packages: Path | None, kind: str = "local") -> tuple[str, ...]:
    """Start a zygote: the interpreter alone, without an environment's packages and without variables.

    Args:
        packages: As for `assignment`.
        kind: One of `KINDS`.
    """
    return (str(_interpreter(packages)), "-I", "-S", str(_PROGRAMS[kind]))


def assignment(
    settings: Settings, flavor: Flavor, packages: Path | None, socket: Path | None, etc: Sequence[str] = ()
) -> Assignment:
    """Say what a zygote is to do.

    Args:
        settings: Of which it is told its part.
        flavor: What it loads.
        packages: Virtual environment that code imports from.
        socket: Where it listens; None = it tells its layers and ends.
        etc: Patterns of what boxes see below /etc, beside what is made for them.

    Raises:
        errors.ConfigError: The data directory lies where boxes could read it.
    """
    _check_data_directory(settings.data_dir, packages)
    sandbox = settings.sandbox
    return Assignment(
        flavor=flavor,
        socket="" if socket is None else str(socket),
        library=str(_cloudpickle()),
        packages=None if packages is None else str(packages.absolute()),
        etc=tuple(etc),
        first_uid=sandbox.first_uid + FLAVORS.index(flavor) * _UIDS_PER_ZYGOTE,
        uids=_UIDS_PER_ZYGOTE,
        max_boxes=sandbox.max_boxes * settings.server.workers,
        allow_weaker=sandbox.allow_weaker,
        limits=_limits(sandbox),
    )


def _limits(sandbox: SandboxSettings) -> Limits:
    bars = sandbox.limits
    return Limits(
        memory_bytes=bars.memory_bytes,
        processes=bars.processes,
        open_files=bars.open_files,
        workspace_bytes=bars.workspace_bytes,
        workspace_files=bars.workspace_files,
        scratch_bytes=bars.workspace_bytes,
        spool_bytes=2 * (bars.state_bytes + bars.log_bytes) + _SPOOL_RESERVE_BYTES,  # arrays may hold an old state
        state_bytes=bars.state_bytes,
    )


def _interpreter(packages: Path | None) -> Path:
    """Take the interpreter that the packages were made for; without packages, the one below this environment."""
    program = Path(getattr(sys, "_base_executable", sys.executable)) if packages is None else packages / "bin/python3"
    return program.resolve()


def _cloudpickle() -> Path:
    found = importlib.util.find_spec("cloudpickle")
    assert found is not None, "a dependency of this package"
    assert found.origin is not None
    return Path(found.origin).parent


def _check_data_directory(data: Path, packages: Path | None) -> None:
    """Refuse a data directory below a directory that boxes see."""
    place = data.resolve()
    for tree in _seen(packages):
        if place.is_relative_to(tree):
            message = f"the data directory {place} lies in {tree}, which boxes of the sandbox can read; choose another"
            raise errors.ConfigError(message, param="data_dir")


def _seen(packages: Path | None) -> Sequence[Path]:
    prefix = _interpreter(packages).parent.parent
    trees = [Path(os.path.realpath(path)) for path in _SEEN]
    return [*trees, prefix, *([] if packages is None else [packages.resolve()])]
