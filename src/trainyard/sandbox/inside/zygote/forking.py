"""Boxes that are forked: what they import is loaded once, in the private root, and each shares its pages."""

import functools
import os

from trainyard.sandbox.inside import kernel, scene
from trainyard.sandbox.inside.zygote import birth, identity, interpreter, layers, namespaces, root
from trainyard.sandbox.inside.zygote.assignment import Assignment
from trainyard.sandbox.inside.zygote.cgroups import Home
from trainyard.sandbox.inside.zygote.main import Arranged, try_birth
from trainyard.sandbox.inside.zygote.nursery import Nursery


def arrange(assignment: Assignment, host_ids: identity.HostIds | None, home: Home | None) -> Arranged:
    """Find out what holds here, move into the private root and load what boxes import."""
    protection, found = layers.protection(None if host_ids is None else assignment.first_uid)
    plan = interpreter.plan(assignment)
    make = functools.partial(birth.Birth, protection, assignment.limits, plan.covered_trees)
    parts = (assignment.limits, host_ids, home)
    failure = _move_in(plan, protection) or _try(Nursery(make(lambda control, spool: None).begin, *parts))
    lack = None if failure else interpreter.load(assignment.flavor, plan.site_packages)
    found += [layers.root(failure), layers.packages(plan.site_packages, lack)]
    return Arranged(Nursery(make(interpreter.enter_runner).begin, *parts), found, failure or lack)


def _move_in(plan: scene.Plan, protection: birth.Protection) -> str | None:
    """Enter the private root; gives what was in the way."""
    missing = namespaces.INDISPENSABLE - protection.namespaces
    if missing:
        return f"needs the namespaces that are missing here: {', '.join(sorted(missing))}"
    user, group = os.getuid(), os.getgid()
    items = scene.items(plan)
    try:
        if user == 0:
            kernel.unshare(kernel.CLONE_NEWNS)
        else:
            kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
            identity.map_alone(user, group, inside=(user, group))
        root.enter(items)
        root.keep_template(plan.covered_trees)
    except OSError as error:
        return str(error)
    return None


def _try(nursery: Nursery) -> str | None:
    """Make a box that ends at once; gives what was in the way."""
    try:
        return try_birth(nursery).failure
    except OSError as error:
        return str(error)
