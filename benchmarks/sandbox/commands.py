"""Starting Python for every run: bare, and under bubblewrap."""

import asyncio
import os
import shutil
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from benchmarks.sandbox.ours import PANDAS, PRINT

_SYSTEM = ("/usr", "/lib", "/lib64", "/bin")


def bare(python: Path, code: str = PRINT) -> list[str]:
    """Make the command of bare Python."""
    return [str(python), "-c", code]


def bubblewrapped(python: Path, code: str = PRINT) -> list[str] | None:
    """Make the command of Python in fresh namespaces under bubblewrap; None where it is not installed."""
    program = shutil.which("bwrap")
    if program is None:
        return None
    shown = [path for path in (*_SYSTEM, *_prefixes(python)) if Path(path).exists()]
    binds = [part for path in shown for part in ("--ro-bind", path, path)]
    fresh = ["--unshare-all", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--die-with-parent"]  # noqa: S108
    return [program, *fresh, *binds, *bare(python, code)]


def _prefixes(python: Path) -> list[str]:
    return [str(python.parent.parent), str(sysconfig.get_config_var("installed_base"))]


async def start(command: Sequence[str]) -> None:
    """Run a command and read what it prints.

    Raises:
        RuntimeError: It failed.
    """
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"]},
    )
    out, err = await process.communicate()
    if process.returncode != 0 or not out:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {err.decode()[-500:]}")


def pandas(python: Path) -> list[str]:
    """Make the command of bare Python that imports pandas."""
    return bare(python, PANDAS)
