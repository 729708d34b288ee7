"""How one box comes about: two forks, namespaces, a root of its own, lockdown, and then the runner.

    zygote --fork--> parent: joins the control group, becomes a user of its own, leaves the namespaces
                       `--fork--> process 1: mounts, limits, Landlock, capabilities, seccomp, runner

The parent ends at once and process 1 becomes a child of the zygote, its subreaper. Both write into the status pipe.
"""

import gc
import os
import resource
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from trainyard.sandbox.inside import kernel, scene
from trainyard.sandbox.inside.lockdown import landlock, limits, privileges, seccomp
from trainyard.sandbox.inside.zygote import identity, namespaces, status
from trainyard.sandbox.inside.zygote.cgroups import Group

_OOM_SCORE: Final = 800
"""The kernel ends boxes before the server when memory is short."""

Enter = Callable[[int, int], object]
"""Runs the box: (control socket, directory of the spool)."""


@dataclass(frozen=True)
class Protection:
    """What holds on this machine, found out once by `trial`.

    Attributes:
        namespaces: Those that boxes have of their own.
        landlock_abi: 0 = none.
        has_seccomp: Whether system calls are filtered.
        counts_processes: See `limits.apply`.
        last_capability: See `privileges.last_capability`.
    """

    namespaces: frozenset[str]
    landlock_abi: int
    has_seccomp: bool
    counts_processes: bool
    last_capability: int


@dataclass(frozen=True)
class Newborn:
    """One box to be made.

    Attributes:
        host_id: User and group on the host; None = that of who makes it, an ordinary user.
        control: The box's end of its socket; stays open in the maker.
        status: Writing end of the status pipe; likewise.
    """

    host_id: int | None
    group: Group | None
    control: int
    status: int


@dataclass(frozen=True)
class Birth:
    """How boxes are made.

    Attributes:
        covered: See `scene.Plan.covered_trees`.
    """

    protection: Protection
    bars: limits.Limits
    covered: Sequence[str]
    enter: Enter

    def begin(self, newborn: Newborn) -> int:
        """Fork; returns the pid of the parent of process 1, which ends soon. Everything else comes over the pipe."""
        pid = os.fork()
        if pid == 0:
            _parent(self, newborn)
        return pid


def set_apart(newborn: Newborn) -> None:
    """In a fresh child: join the control group, and keep nothing of the maker."""
    _reset_signals()
    if newborn.group is not None:
        newborn.group.join()
    _close_all_but((newborn.control, newborn.status))
    os.setsid()
    Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE))


def _parent(birth: Birth, newborn: Newborn) -> NoReturn:
    try:
        set_apart(newborn)
        _leave(birth.protection.namespaces, newborn.host_id)
        pid = os.fork()
        if pid == 0:
            _first(birth, newborn)
        status.tell(newborn.status, pid=pid)
    finally:
        status.end(newborn.status)


def _leave(names: frozenset[str], host_id: int | None) -> None:
    user, group = os.getuid(), os.getgid()
    if host_id is not None:
        identity.become(host_id)
        user = group = host_id
    namespaces.leave(names)
    if "user" in names:
        identity.map_alone(user, group)


def _first(birth: Birth, newborn: Newborn) -> NoReturn:
    """Be process 1 of the box, from here to its end."""
    try:
        spool = _settle(birth)
        status.tell(newborn.status, ready=True)
        os.close(newborn.status)
        gc.enable()
        birth.enter(newborn.control, spool)
    finally:
        status.end(newborn.status)


def _settle(birth: Birth) -> int:
    """Enter the private root and give up everything; returns the directory of the spool."""
    protection = birth.protection
    places = namespaces.settle(birth.bars, os.getuid(), protection.namespaces, birth.covered)
    status.point_standard_streams_nowhere()
    limits.apply(birth.bars, counts_processes=protection.counts_processes)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    privileges.gain_none()
    if protection.landlock_abi >= landlock.LEAST_ABI:
        landlock.restrict(protection.landlock_abi, (*places.writable, places.spool), scene.DEVICE_PATHS)
    _close_each(places.writable)
    privileges.drop(protection.last_capability)
    if protection.has_seccomp:
        seccomp.install()
    return places.spool


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _close_all_but(kept: Iterable[int]) -> None:
    """Close what the zygote has open; the standard streams and control groups' descriptors have no way into the box."""
    last = 2
    for descriptor in sorted(kept):
        os.closerange(last + 1, descriptor)
        last = descriptor
    os.closerange(last + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _close_each(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
