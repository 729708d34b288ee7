"""How one box comes about: two forks, namespaces, a root of its own, lockdown, and then the runner.

    zygote --fork--> parent: joins the control group, becomes a user of its own, leaves the namespaces
                       `--fork--> process 1: mounts, limits, Landlock, capabilities, seccomp, runner

The parent ends at once and process 1 becomes a child of the zygote, its subreaper. Both write lines of JSON into the
status pipe: `{"pid"}`, `{"ready"}`, `{"failed"}`; its end without `ready` is a failure too.
"""

import contextlib
import gc
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from trainyard.sandbox.inside import kernel
from trainyard.sandbox.inside.lockdown import landlock, limits, privileges, seccomp
from trainyard.sandbox.inside.zygote import identity, namespaces, root
from trainyard.sandbox.inside.zygote.cgroups import Group

_OOM_SCORE: Final = 800
"""The kernel ends boxes before the server when memory is short."""
_NICENESS: Final = 5
"""Code of users yields to the server."""

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
class Birth:
    """One box to be made.

    Attributes:
        covered: See `root.Plan.covered_trees`.
        host_id: User and group on the host; None = that of the zygote, which is an ordinary user.
        control: The box's end of its socket; stays open in the zygote.
        status: Writing end of the status pipe; likewise.
    """

    protection: Protection
    bars: limits.Limits
    covered: Sequence[str]
    host_id: int | None
    group: Group | None
    control: int
    status: int
    enter: Enter


def begin(birth: Birth) -> int:
    """Fork; returns the pid of the parent of process 1, which ends soon. Everything else comes over the pipe."""
    pid = os.fork()
    if pid == 0:
        _parent(birth)
    return pid


def tell(status: int, **fact: object) -> None:
    """Write one line into the status pipe, unless nobody reads it any more."""
    with contextlib.suppress(OSError):
        os.write(status, json.dumps(fact).encode() + b"\n")


def _parent(birth: Birth) -> NoReturn:
    try:
        _reset_signals()
        if birth.group is not None:
            birth.group.join()
        _close_all_but((birth.control, birth.status))
        os.setsid()
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE))
        os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)
        _leave(birth)
        pid = os.fork()
        if pid == 0:
            _first(birth)
        tell(birth.status, pid=pid)
    finally:
        _end(birth.status)


def _leave(birth: Birth) -> None:
    user, group = os.getuid(), os.getgid()
    if birth.host_id is not None:
        identity.become(birth.host_id)
        user = group = birth.host_id
    namespaces.leave(birth.protection.namespaces)
    if "user" in birth.protection.namespaces:
        identity.map_alone(user, group)


def _first(birth: Birth) -> NoReturn:
    """Be process 1 of the box, from here to its end."""
    try:
        spool = _settle(birth)
        tell(birth.status, ready=True)
        os.close(birth.status)
        gc.enable()
        birth.enter(birth.control, spool)
    finally:
        _end(birth.status)


def _end(status: int) -> NoReturn:
    """End this process, whatever brought it here, without going back into the zygote's code."""
    error = sys.exc_info()[1]
    if error is not None:
        tell(status, failed=f"{type(error).__name__}: {error}")
    os._exit(0 if error is None else 1)


def _settle(birth: Birth) -> int:
    """Enter the private root and give up everything; returns the directory of the spool."""
    protection = birth.protection
    places = namespaces.settle(birth.bars, os.getuid(), protection.namespaces, birth.covered)
    _point_standard_streams_nowhere()
    limits.apply(birth.bars, counts_processes=protection.counts_processes)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    privileges.gain_none()
    if protection.landlock_abi >= landlock.LEAST_ABI:
        devices = [os.open(f"/dev/{name}", os.O_PATH | os.O_CLOEXEC) for name in root.DEVICES]
        landlock.restrict(protection.landlock_abi, (*places.writable, places.spool), devices)
        _close_each(devices)
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


def _point_standard_streams_nowhere() -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nowhere, standard)
    os.close(nowhere)


def _close_each(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
