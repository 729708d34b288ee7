"""Running tests once more as an ordinary user.

He may not be able to read where the interpreter and the repository lie (below /root, mode 0700). So the run has a mount
namespace of its own, in which whatever bars his way is covered by an empty directory that holds these places and
nothing else, at their own paths. Nothing is copied, and nothing is left when the run ends.
"""

import os
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.services import require

USER = 64_242
"""Nobody's; it needs no entry in passwd."""
_ROOT = Path(__file__).parents[2]


def run_tests(arguments: Sequence[str], timeout_s: float) -> "subprocess.CompletedProcess[str]":
    """Run pytest as an ordinary user, without capabilities; needs root.

    Args:
        arguments: For pytest; paths are relative to the repository.
        timeout_s: After which it is killed.
    """
    for program in ("unshare", "setpriv"):
        if shutil.which(program) is None:
            require.missing(program, "the package util-linux")
    home = Path(tempfile.mkdtemp(prefix="ordinary-"))
    home.chmod(0o755)
    os.chown(home, USER, USER)
    try:
        command = [sys.executable, "-m", "pytest", "-q", f"--basetemp={home}/pytest", *arguments]
        privileges = [f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
        script = [*_open_ways(home), f"cd {_ROOT}", shlex.join(["exec", "setpriv", *privileges, "--", *command])]
        return subprocess.run(
            ["unshare", "--mount", "--propagation=private", "sh", "-ec", "\n".join(script)],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(home), "TMPDIR": str(home), "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    finally:
        shutil.rmtree(home)


def _open_ways(home: Path) -> Iterator[str]:
    """Give the commands that let everybody reach the interpreter, its environment and the repository."""
    places = sorted({Path(os.path.realpath(place)) for place in (sys.base_prefix, sys.prefix, _ROOT)})
    barred = {place: bar for place in places if (bar := _bar(place)) is not None}
    kept = {place: home / f"kept-{number}" for number, place in enumerate(barred)}
    for place, keep in kept.items():
        yield shlex.join(["mkdir", str(keep)])
        yield shlex.join(["mount", "--rbind", str(place), str(keep)])
    for bar in sorted(set(barred.values())):
        yield shlex.join(["mount", "-t", "tmpfs", "-o", "mode=755", "none", str(bar)])
    for place, keep in kept.items():
        yield shlex.join(["mkdir", "-p", str(place)])
        yield shlex.join(["mount", "--rbind", str(keep), str(place)])


def _bar(place: Path) -> Path | None:
    """Find the first directory on the way that strangers cannot pass."""
    ways = [*reversed(place.parents), place]
    return next((way for way in ways if not way.stat().st_mode & stat.S_IXOTH), None)
