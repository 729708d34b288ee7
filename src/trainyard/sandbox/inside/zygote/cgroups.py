"""Control groups: memory, processes and a share of the processor for each box, where the machine lets us make groups.

Version 2 takes one directory, version 1 one per controller; found once, before the private root hides them, and used
by descriptor afterwards. A group is made with the box and removed when its last process is gone; what a killed zygote
has left is removed by the next.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from trainyard.sandbox.inside.lockdown.limits import OWN_PROCESSES, Limits

NAME: Final = "trainyard-box-"
CONTROLLERS: Final = ("memory", "pids", "cpu")
_RESERVE_BYTES: Final = 64 << 20
"""Above the limit that the runner watches and reports; that of the kernel is for what grows faster than it looks."""
_BIRTH_PROCESSES: Final = 1
"""The parent of process 1, while there is one."""
_V1_SHARES, _V2_WEIGHT = 512, 50
"""Half of what a group has by default."""


@dataclass(frozen=True)
class Home:
    """Where groups of boxes are made.

    Attributes:
        directories: Descriptor by controller; version 2 has one, under `unified`.
        place: For people.
    """

    version: Literal[1, 2]
    directories: Mapping[str, int]
    place: str


class Group:
    """The control group of one box."""

    def __init__(self, home: Home, name: str, limits: Limits) -> None:
        self._home, self._name = home, name
        try:
            self._make(limits)
        except OSError:
            self.remove()
            raise

    def _make(self, limits: Limits) -> None:
        for controller, directory in self._home.directories.items():
            os.mkdir(self._name, 0o755, dir_fd=directory)
            for file, value in bars(self._home.version, controller, limits).items():
                _write(directory, f"{self._name}/{file}", value)

    def join(self) -> None:
        """Move this process into it."""
        for directory in self._home.directories.values():
            _write(directory, f"{self._name}/cgroup.procs", "0")

    def remove(self) -> bool:
        """Take it away; false while it still has processes."""
        return remove(self._home, self._name)


def find(own: str, mounts: str) -> Home | None:
    """Look for a place below which this process may make groups.

    Args:
        own: Text of /proc/self/cgroup.
        mounts: Text of /proc/self/mountinfo.
    """
    paths = _own_paths(own)
    places = _mounted(mounts)
    return _find_v2(paths, places) or _find_v1(paths, places)


def name_of(number: int) -> str:
    """Name the group of a box of this process."""
    return f"{NAME}{os.getpid()}-{number}"


def sweep(home: Home) -> bool:
    """Remove what dead zygotes have left, as far as it is empty; a living one may be about to use its own.

    Returns:
        Whether boxes of dead zygotes live on in theirs.
    """
    is_clean = True
    for directory in home.directories.values():
        for name in os.listdir(directory):  # noqa: PTH208 - of a descriptor
            maker = name.removeprefix(NAME).split("-")[0]
            if name.startswith(NAME) and not Path("/proc", maker).exists():
                is_clean &= remove(home, name)
    return not is_clean


def remove(home: Home, name: str) -> bool:
    """Remove a group in every controller; false while one still has processes."""
    is_gone = True
    for directory in home.directories.values():
        try:
            os.rmdir(name, dir_fd=directory)
        except FileNotFoundError:
            continue
        except OSError:
            is_gone = False
    return is_gone


def bars(version: int, controller: str, limits: Limits) -> dict[str, str]:
    """Say what is written into the control files of a box, by name."""
    memory = str(limits.memory_bytes + limits.state_bytes + _RESERVE_BYTES)
    processes = str(limits.processes + OWN_PROCESSES + _BIRTH_PROCESSES)
    if version == 2:
        return {
            "memory.max": memory, "memory.swap.max": "0", "pids.max": processes, "cpu.weight": str(_V2_WEIGHT),
        }  # fmt: skip
    return {
        "memory": {"memory.limit_in_bytes": memory, "memory.memsw.limit_in_bytes": memory},
        "pids": {"pids.max": processes},
        "cpu": {"cpu.shares": str(_V1_SHARES)},
    }[controller]


def _write(directory: int, path: str, value: str) -> None:
    """Write a control file; one that this kernel does not have (swap, if it is off) is left out."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        if path.endswith(("memory.swap.max", "memory.memsw.limit_in_bytes")):
            return
        raise
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def _own_paths(text: str) -> dict[str, str]:
    """Path of this process by controller; that of version 2 under the empty name."""
    found = dict[str, str]()
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            found[controller] = path
    return found


def _mounted(text: str) -> dict[str, str]:
    """Mount point by controller; that of version 2 under the empty name."""
    found = dict[str, str]()
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup2":
            found[""] = before.split()[4]
        elif kind == "cgroup":
            for option in options.rsplit(" ", 1)[-1].split(","):
                found[option] = before.split()[4]
    return found


def _find_v2(paths: Mapping[str, str], places: Mapping[str, str]) -> Home | None:
    """Take the nearest group, our own or one above it, that hands memory and processes to groups below."""
    if "" not in places or "" not in paths:
        return None
    mount = Path(places[""])
    own = mount / paths[""].lstrip("/")
    for place in (own, *own.parents):
        if not place.is_relative_to(mount):
            break
        if _delegates(place) and (directory := _usable(place)) is not None:
            return Home(2, {"unified": directory}, str(place))
    return None


def _delegates(place: Path) -> bool:
    """Whether groups below have the controllers, switched on now if that can be done."""
    try:
        here = set((place / "cgroup.controllers").read_text().split())
        if not here >= {"memory", "pids"}:
            return False
        below = set((place / "cgroup.subtree_control").read_text().split())
        missing = (here & set(CONTROLLERS)) - below
        if missing:
            (place / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in sorted(missing)))
    except OSError:
        return False
    return True


def _find_v1(paths: Mapping[str, str], places: Mapping[str, str]) -> Home | None:
    directories = dict[str, int]()
    for controller in CONTROLLERS:
        mount = places.get(controller)
        if mount is None:
            continue
        own = Path(mount, paths.get(controller, "/").lstrip("/"))
        directory = _usable(own if own.is_dir() else Path(mount))  # a container's own path is not mounted in it
        if directory is not None:
            directories[controller] = directory
    if not {"memory", "pids"} <= directories.keys():
        for directory in directories.values():
            os.close(directory)
        return None
    return Home(1, directories, f"{places['memory']}{paths.get('memory', '')}")


def _usable(place: Path) -> int | None:
    """Open a group in which we may make others; None when we may not."""
    name = f"{NAME}{os.getpid()}-trial"
    try:
        (place / name).mkdir()
        (place / name).rmdir()
        return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
