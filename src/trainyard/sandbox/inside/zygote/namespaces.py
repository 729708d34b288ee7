"""The namespaces of a box, and what it has to do in them before it can be locked down."""

import fcntl
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from trainyard.sandbox.inside import kernel, scene
from trainyard.sandbox.inside.lockdown.limits import Limits
from trainyard.sandbox.inside.scene import WORKSPACE, WRITABLE
from trainyard.sandbox.inside.zygote import root

NAMESPACES: Final = {
    "user": kernel.CLONE_NEWUSER,
    "mount": kernel.CLONE_NEWNS,
    "pid": kernel.CLONE_NEWPID,
    "network": kernel.CLONE_NEWNET,
    "ipc": kernel.CLONE_NEWIPC,
    "uts": kernel.CLONE_NEWUTS,
    "cgroup": kernel.CLONE_NEWCGROUP,
}
INDISPENSABLE: Final = frozenset({"mount", "pid", "network"})
"""Without these no box can be made, whatever is allowed."""

_PLAIN: Final = kernel.MS_NOSUID | kernel.MS_NODEV
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_IFREQ: Final = "16sH14x"


@dataclass(frozen=True)
class Places:
    """Descriptors of the directories that a box may write to, and of the one that only its runner can reach."""

    writable: tuple[int, ...]
    spool: int


def leave(names: frozenset[str]) -> None:
    """Leave these namespaces of the zygote; the next child is process 1 of the new pid namespace."""
    kernel.unshare(sum(NAMESPACES[name] for name in names))


def settle(limits: Limits, owner: int, names: frozenset[str], covered: Sequence[str]) -> Places:
    """As process 1: name the machine, bring up its loopback, and move into a root of its own.

    Args:
        limits: Sizes of what can be written.
        owner: User id of the files, as seen from here.
        names: Namespaces that are this box's own.
        covered: See `scene.Plan.covered_trees`.
    """
    if "uts" in names:
        socket.sethostname(scene.NAME)
    _bring_up_loopback()
    kernel.mount(root.TEMPLATE, root.STAGE, None, kernel.MS_BIND | kernel.MS_REC)
    _mount_proc()
    spool = _mount_spool(limits, owner)
    _mount_memory("/tmp", limits.scratch_bytes, limits.workspace_files, owner)  # noqa: S108 - below the stage
    _mount_memory("/dev/shm", limits.scratch_bytes // 4, limits.workspace_files, owner)  # noqa: S108 - below the stage
    _mount_memory(WORKSPACE, limits.workspace_bytes, limits.workspace_files, owner)
    root.uncover(covered, root.STAGE)
    os.chdir(root.STAGE)
    kernel.pivot_root(".", ".")
    kernel.unmount(".")
    os.chdir(WORKSPACE)
    return Places(tuple(_directory(path) for path in WRITABLE), spool)


def _mount_proc() -> None:
    kernel.mount("proc", f"{root.STAGE}/proc", "proc", kernel.MS_RDONLY | kernel.MS_NOEXEC | _PLAIN)
    for name in scene.HIDDEN_FILES:
        if os.path.exists(path := f"{root.STAGE}/proc/{name}"):  # noqa: PTH110 - paths are text here
            kernel.mount(f"{root.STAGE}/dev/null", path, None, kernel.MS_BIND)
    for name in scene.HIDDEN_DIRECTORIES:
        if os.path.exists(path := f"{root.STAGE}/proc/{name}"):  # noqa: PTH110 - paths are text here
            kernel.mount(f"{root.TEMPLATE}/proc", path, None, kernel.MS_BIND)  # an empty directory


def _mount_spool(limits: Limits, owner: int) -> int:
    """Mount the runner's files, and take them out of the namespace at once: no path leads there."""
    _mount_memory(WORKSPACE, limits.spool_bytes, 64, owner)
    spool = _directory(f"{root.STAGE}{WORKSPACE}")
    kernel.unmount(f"{root.STAGE}{WORKSPACE}")
    return spool


def _mount_memory(path: str, size_bytes: int, files: int, owner: int) -> None:
    mode = "mode=1777" if path != WORKSPACE else "mode=700"
    options = f"size={size_bytes},nr_inodes={files},uid={owner},gid={owner},{mode}"
    kernel.mount("tmpfs", f"{root.STAGE}{path}", "tmpfs", _PLAIN, options)


def _directory(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _bring_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        name = b"lo"
        flags = struct.unpack(_IFREQ, fcntl.ioctl(asking, _SIOCGIFFLAGS, struct.pack(_IFREQ, name, 0)))[1]
        fcntl.ioctl(asking, _SIOCSIFFLAGS, struct.pack(_IFREQ, name, flags | _IFF_UP))
