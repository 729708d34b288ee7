"""A zygote from its first moment to its last, whatever makes its boxes."""

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from trainyard.sandbox.inside import kernel, processes
from trainyard.sandbox.inside.zygote import assignment as assignments
from trainyard.sandbox.inside.zygote import cgroups, identity, interpreter, layers
from trainyard.sandbox.inside.zygote.assignment import Assignment
from trainyard.sandbox.inside.zygote.cgroups import Home
from trainyard.sandbox.inside.zygote.nursery import Box, Nursery
from trainyard.sandbox.inside.zygote.service import Service

_TRIAL_S: Final = 10.0
_BACKLOG: Final = 128


@dataclass(frozen=True)
class Arranged:
    """What is ready to make boxes.

    Attributes:
        found: Layers here, control groups left out.
        obstacle: Why no box can be made, whatever is allowed; None = it can.
    """

    nursery: Nursery
    found: Sequence[layers.Layer]
    obstacle: str | None


Arrange = Callable[[Assignment, identity.HostIds | None, Home | None], Arranged]


def load_runner() -> None:
    """Import everything that a box needs, as long as the files can be reached."""
    inside = Path(__file__).parent.parent
    for file in sorted(inside.glob("[!_]*.py")):
        importlib.import_module(f"trainyard.sandbox.inside.{file.stem}")


def run(arrange: Arrange) -> None:
    """Read the assignment and carry it out."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGTERM)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
    processes.take_descriptors()
    assignment = assignments.decode(sys.stdin.buffer.read())
    _point_input_nowhere()
    listener = _bind(assignment.socket) if assignment.socket else None
    home = cgroups.find(Path("/proc/self/cgroup").read_text(), Path("/proc/self/mountinfo").read_text())
    arranged = arrange(assignment, _host_ids(assignment), home)
    found = [*arranged.found, layers.cgroup(home)]
    plain = [layer.plain() for layer in found]
    if listener is None:
        print(json.dumps(plain))  # noqa: T201 - the answer of a zygote that is only asked
        return
    interpreter.freeze()
    listener.listen(_BACKLOG)
    refusal = _refusal(found, arranged.obstacle, assignment)
    Service(listener, arranged.nursery, plain, assignment.flavor, assignment.max_boxes, refusal).serve()


def _bind(path: str) -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - paths are text here
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    os.chmod(path, 0o600)  # noqa: PTH101 - paths are text here
    listener.setblocking(False)
    return listener


def _host_ids(assignment: Assignment) -> identity.HostIds | None:
    """Find the ids that boxes get; None where they can only be the user that this process is."""
    maps = [Path("/proc/self", name).read_text() for name in ("uid_map", "gid_map")]
    if os.getuid() != 0 or not identity.are_mapped(assignment.first_uid, assignment.uids, maps[0], maps[1]):
        return None
    return identity.HostIds(assignment.first_uid, assignment.uids, start=time.monotonic_ns() // 1_000_000)


def try_birth(nursery: Nursery, patience_s: float = _TRIAL_S) -> Box:
    """Make a box that ends at once; it tells what was in the way.

    Raises:
        OSError: It cannot be begun.
    """
    box = nursery.begin()
    while not box.is_settled and box.status >= 0 and select.select([box.status], [], [], patience_s)[0]:
        nursery.read_status(box)
    if not box.is_settled:
        box.failure = f"not ready after {patience_s:g} s"
    nursery.end_all()
    return box


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
