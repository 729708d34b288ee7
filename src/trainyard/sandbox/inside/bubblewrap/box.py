"""`python -I -S …/box.py ORDER CONTROL STATUS`: process 1 of a box that bubblewrap has made.

Started by its path it finds the package by itself; nothing of that is left on `sys.path`, which user code inherits.
"""

import os
import sys
from pathlib import Path
from typing import Final, NoReturn

_ROOT = str(Path(__file__).resolve().parents[4])
_HERE = str(Path(__file__).resolve().parent)

sys.path[:] = [_ROOT, *(path for path in sys.path if path != _HERE)]
from trainyard.sandbox.inside import kernel, scene  # noqa: E402 found only through the line above
from trainyard.sandbox.inside.bubblewrap import arguments, order  # noqa: E402 the same
from trainyard.sandbox.inside.lockdown import landlock, limits, privileges, seccomp  # noqa: E402 the same
from trainyard.sandbox.inside.spool import open_directory  # noqa: E402 the same
from trainyard.sandbox.inside.zygote import interpreter, layers, status  # noqa: E402 the same

sys.path.remove(_ROOT)

_CAPABILITIES: Final = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


class TooWeak(Exception):
    """Bubblewrap has not made what it was asked for."""


def main(told: order.Order, control: int, answers: int) -> NoReturn:
    """Give up what is left, and be the runner."""
    try:
        status.point_standard_streams_nowhere()
        if lack := interpreter.load(told.flavor, interpreter.SITE_PACKAGES if told.has_packages else None):
            raise TooWeak(lack)
        _check()
        namespaces = {name: str(Path(f"/proc/self/ns/{name}").readlink()) for name in layers.NAMESPACE_FILES.values()}
        spool = open_directory(arguments.SPOOL)
        _lock(told, spool)
        status.tell(answers, ready=namespaces)
        os.close(answers)
        if not told.is_trial:
            interpreter.enter_runner(control, spool)
    finally:
        status.end(answers)


def _check() -> None:
    """Look whether this is the box that was asked for, before anybody's code is here.

    Raises:
        TooWeak: It is root, has a capability, or can write where it should not.
    """
    about = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    if held := [name for name in _CAPABILITIES if int(about[name], 16)]:
        raise TooWeak(f"process 1 has capabilities ({', '.join(held)})")
    if os.getuid() != scene.INSIDE_ID or os.getpid() != 1:
        raise TooWeak(f"process {os.getpid()} of user {os.getuid()}; 1 and {scene.INSIDE_ID} were asked for")
    if not os.statvfs("/").f_flag & os.ST_RDONLY:
        raise TooWeak("the root can be written")


def _lock(told: order.Order, spool: int) -> None:
    limits.apply(told.limits, counts_processes=told.counts_processes)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    privileges.gain_none()
    if told.landlock_abi >= landlock.LEAST_ABI:
        writable = [open_directory(path) for path in scene.WRITABLE]
        landlock.restrict(told.landlock_abi, (*writable, spool), scene.DEVICE_PATHS)
        for directory in writable:
            os.close(directory)
    if told.has_seccomp:
        seccomp.install()


if __name__ == "__main__":
    main(order.decode(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
