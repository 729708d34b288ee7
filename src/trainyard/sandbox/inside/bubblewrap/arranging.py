"""How a zygote comes to boxes of bubblewrap: the program, one box as a trial, and what that has shown."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NoReturn

from trainyard.sandbox.inside import kernel, scene
from trainyard.sandbox.inside.bubblewrap import arguments
from trainyard.sandbox.inside.bubblewrap.order import Order
from trainyard.sandbox.inside.zygote import identity, interpreter, layers, root, status
from trainyard.sandbox.inside.zygote.assignment import Assignment
from trainyard.sandbox.inside.zygote.birth import Newborn, set_apart
from trainyard.sandbox.inside.zygote.cgroups import Home
from trainyard.sandbox.inside.zygote.layers import Layer
from trainyard.sandbox.inside.zygote.main import Arranged, try_birth
from trainyard.sandbox.inside.zygote.nursery import Nursery

_SEARCHED: Final = "/usr/local/bin:/usr/bin:/bin"
_PATIENCE_S: Final = 60.0
"""numpy, pandas and matplotlib are loaded from a cold disk in less."""
_VERSION_S: Final = 10.0
_FILES: Final = Layer(
    "number of files",
    False,
    "bubblewrap bounds the bytes of what a box can write, not the files: sandbox.limits.workspace_files does not hold "
    "in it; each file counts as 1 KiB of sandbox.limits.memory_bytes, which the runner watches",
    is_required=False,
)


@dataclass(frozen=True)
class Birth:
    """How boxes are made.

    Attributes:
        program: Of bubblewrap.
        python: Interpreter of the boxes.
        items: See `arguments.of`, as the next.
    """

    program: str
    python: str
    items: Sequence[scene.Item] | None
    covered: Sequence[str]
    order: Order

    def begin(self, newborn: Newborn) -> int:
        """Fork; returns the pid of bwrap, which stays until the box has ended."""
        pid = os.fork()
        if pid == 0:
            self._become_bwrap(newborn)
        return pid

    def _become_bwrap(self, newborn: Newborn) -> NoReturn:
        try:
            set_apart(newborn)
            if newborn.host_id is not None:
                os.setgroups([])
                os.setresgid(newborn.host_id, newborn.host_id, newborn.host_id)
                os.setresuid(newborn.host_id, newborn.host_id, newborn.host_id)
            status.point_standard_streams_nowhere()
            os.dup2(newborn.status, 2)
            told = os.dup(newborn.status)
            for descriptor in (told, newborn.control, newborn.status):
                os.set_inheritable(descriptor, True)
            box = (self.python, "-I", "-S", arguments.PROGRAM, self.order.encode())
            made = arguments.of(self.items, self.covered, self.order.limits)
            command = (self.program, *made, "--json-status-fd", str(told), "--", *box)
            os.execve(self.program, (*command, str(newborn.control), str(newborn.status)), {})  # noqa: S606 - no shell
        finally:
            status.end(newborn.status)


def arrange(assignment: Assignment, host_ids: identity.HostIds | None, home: Home | None) -> Arranged:
    """Find bubblewrap, enter the private root as root, and have one box made that tells what holds in it."""
    host_id = None if host_ids is None else assignment.first_uid
    plan = interpreter.plan(assignment)
    able = layers.abilities(host_id, frozenset())
    order = Order(
        assignment.limits,
        assignment.flavor,
        able.landlock_abi,
        able.has_seccomp,
        able.counts_processes,
        plan.site_packages is not None,
        is_trial=True,
    )
    program = shutil.which("bwrap", path=_SEARCHED) or ""
    birth = Birth(program, plan.interpreter, None, plan.covered_trees, order)
    parts = (assignment.limits, host_ids, home)
    told, failure = dict[str, str](), None if program else "bwrap is not installed; the package is `bubblewrap`"
    if failure is None:
        try:
            birth = replace(birth, items=_reachable(plan))
            trial = try_birth(Nursery(birth.begin, *parts, is_attended=True), _PATIENCE_S)
            told, failure = trial.told if isinstance(trial.told, dict) else {}, trial.failure
        except OSError as error:
            failure = str(error)
    found = [
        _program(program),
        *_namespaces(told, failure),
        *layers.lockdown(able, host_id),
        layers.root(failure),
        _FILES,
        layers.packages(plan.site_packages, failure),
    ]
    made = replace(birth, order=replace(order, is_trial=False))
    return Arranged(Nursery(made.begin, *parts, is_attended=True), found, failure)


def _reachable(plan: scene.Plan) -> list[scene.Item] | None:
    """Have everything where user ids of boxes can reach it; gives what bwrap has to show, None = its root."""
    items = [*scene.items(plan), *arguments.program_items()]
    if os.getuid() != 0:
        return items
    kernel.unshare(kernel.CLONE_NEWNS)
    root.enter(items)
    return None


def _program(path: str) -> Layer:
    if not path:
        return Layer("bubblewrap", False, "bwrap is not installed; the package is `bubblewrap`")
    said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=_VERSION_S, env={}, check=False)
    return Layer("bubblewrap", said.returncode == 0, said.stdout.strip() or said.stderr.strip())


def _namespaces(told: Mapping[str, str], failure: str | None) -> list[Layer]:
    """Compare those of the trial with our own."""
    found = []
    for name, file in layers.NAMESPACE_FILES.items():
        is_own = told.get(file) not in (None, str(Path(f"/proc/self/ns/{file}").readlink()))
        found.append(Layer(f"{name} namespace", is_own, "own" if is_own else failure or "that of the machine"))
    return found
