"""Who a box is: one user id inside, and on the host one that nobody else has."""

import errno
import os
from collections.abc import Container
from pathlib import Path

from trainyard.sandbox.inside import kernel
from trainyard.sandbox.inside.scene import INSIDE_ID


class HostIds:
    """Hands out user ids of a range on the host, one per living box.

    A zygote begins at a place of its own, so that boxes which have outlived the one before rarely share an id with new
    ones; where they do, namespaces of users, processes and mounts still part them.
    """

    def __init__(self, first: int, count: int, start: int) -> None:
        self._first, self._count, self._next = first, count, start % count

    def take(self, used: Container[int]) -> int:
        """Give an id that no living box has; raises OSError (EAGAIN) when there is none."""
        for step in range(self._count):
            offset = (self._next + step) % self._count
            if self._first + offset not in used:
                self._next = offset + 1
                return self._first + offset
        raise OSError(errno.EAGAIN, f"all {self._count} user ids are in use")


def are_mapped(first: int, count: int, uid_map: str, gid_map: str) -> bool:
    """Whether ids of the host exist in this user namespace, which is not the first one in some containers.

    Args:
        first: Of the ids.
        count: How many.
        uid_map: Text of /proc/self/uid_map.
        gid_map: Text of /proc/self/gid_map.
    """
    return all(_has_range(text, first, first + count) for text in (uid_map, gid_map))


def _has_range(text: str, start: int, stop: int) -> bool:
    extents = [tuple(map(int, line.split())) for line in text.splitlines()]
    return any(first <= start and stop <= first + length for first, _, length in extents)


def become(host_id: int) -> None:
    """Be an ordinary user of the host from now on, with the capabilities that making namespaces takes."""
    os.setgroups([])
    os.setresgid(host_id, host_id, host_id)
    kernel.prctl(kernel.PR_SET_KEEPCAPS, 1)
    os.setresuid(host_id, host_id, host_id)
    kernel.raise_capabilities()
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)  # else /proc/self/uid_map belongs to root


def map_alone(user: int, group: int, *, inside: tuple[int, int] = (INSIDE_ID, INSIDE_ID)) -> None:
    """In a fresh user namespace: let this process be one user and group inside, and nobody else be anybody.

    Args:
        user: Its id in the namespace above.
        group: Likewise.
        inside: User and group that it is inside.
    """
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{inside[0]} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{inside[1]} {group} 1")
