"""A zygote from its first moment to its last."""

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from trainyard.sandbox.inside import kernel
from trainyard.sandbox.inside.zygote import assignment as assignments
from trainyard.sandbox.inside.zygote import birth, cgroups, identity, interpreter, layers, namespaces, root
from trainyard.sandbox.inside.zygote.assignment import Assignment
from trainyard.sandbox.inside.zygote.nursery import Nursery
from trainyard.sandbox.inside.zygote.service import Service

_TRIAL_S: Final = 10.0
_BACKLOG: Final = 128


def load_runner() -> None:
    """Import everything that a box needs, as long as the files can be reached."""
    inside = Path(__file__).parent.parent
    for file in sorted(inside.glob("[!_]*.py")):
        importlib.import_module(f"trainyard.sandbox.inside.{file.stem}")


def run() -> None:
    """Read the assignment and carry it out."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGTERM)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    assignment = assignments.decode(sys.stdin.buffer.read())
    _point_input_nowhere()
    listener = _bind(assignment.socket) if assignment.socket else None
    home = cgroups.find(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    if home is not None:
        cgroups.sweep(home)
    host_ids = _host_ids(assignment)
    protection, found = layers.protection(None if host_ids is None else assignment.first_uid)
    plan = interpreter.plan(assignment)
    parts = (protection, assignment.limits, plan.covered_trees, host_ids, home)
    failure = _move_in(plan, protection) or _try_birth(Nursery(*parts, enter=lambda control, spool: None))
    lack = None if failure else interpreter.load(assignment.flavor, plan.site_packages)
    found += [layers.root(failure), layers.cgroup(home), layers.packages(plan.site_packages, lack)]
    plain = [layer.plain() for layer in found]
    if listener is None:
        print(json.dumps(plain))  # noqa: T201 - the answer of a zygote that is only asked
        return
    interpreter.freeze()
    listener.listen(_BACKLOG)
    refusal = _refusal(found, failure or lack, assignment)
    Service(listener, Nursery(*parts), plain, assignment.flavor, assignment.max_boxes, refusal).serve()


def _bind(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - paths are text here
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o600)  # noqa: PTH101 - paths are text here
    listener.setblocking(False)
    return listener


def _host_ids(assignment: Assignment) -> identity.HostIds | None:
    if os.getuid() != 0:
        return None
    return identity.HostIds(assignment.first_uid, assignment.uids, start=time.monotonic_ns() // 1_000_000)


def _move_in(plan: root.Plan, protection: birth.Protection) -> str | None:
    """Enter the private root; gives what was in the way."""
    missing = namespaces.INDISPENSABLE - protection.namespaces
    if missing:
        return f"needs the namespaces that are missing here: {', '.join(sorted(missing))}"
    user, group = os.getuid(), os.getgid()
    try:
        if user == 0:
            kernel.unshare(kernel.CLONE_NEWNS)
        else:
            kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
            identity.map_alone(user, group, inside=(user, group))
        root.enter(plan)
    except OSError as error:
        return str(error)
    return None


def _try_birth(nursery: Nursery) -> str | None:
    """Make a box that ends at once; gives what was in the way."""
    try:
        box = nursery.begin()
    except OSError as error:
        return str(error)
    while not box.is_settled and box.status >= 0 and select.select([box.status], [], [], _TRIAL_S)[0]:
        nursery.read_status(box)
    failure = box.failure if box.is_settled else f"not ready after {_TRIAL_S:g} s"
    nursery.end_all()
    return failure


def _refusal(found: Sequence[layers.Layer], obstacle: str | None, assignment: Assignment) -> str | None:
    """Why this zygote makes no boxes.

    Args:
        found: The layers here.
        obstacle: What is in the way, whatever is allowed.
        assignment: Says whether less than all required layers will do.
    """
    if obstacle is not None or assignment.allow_weaker:
        return obstacle
    missing = [f"{layer.name}: {layer.detail}" for layer in found if layer.is_required and not layer.is_held]
    return "; ".join(missing) or None


def _point_input_nowhere() -> None:
    nowhere = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nowhere, 0)
    os.close(nowhere)
