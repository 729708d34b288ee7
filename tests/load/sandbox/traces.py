"""What a server has of the machine: processes, mounts, descriptors, control groups, temporary files, memory."""

import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trainyard.core.processes import runfile
from trainyard.sandbox.inside.zygote.cgroups import NAME
from trainyard.sdk.local_server import LocalServer

_CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Traces:
    """Counts at one moment.

    Attributes:
        processes: Of the server and all below it, by name.
        mounts: Lines of mountinfo of this process and of each zygote.
        groups: Control groups of the boxes of its zygotes.
        temporary: What lies in its temporary directory.
        descriptors: Open ones, by child of the supervisor.
    """

    processes: Mapping[str, int]
    mounts: Mapping[str, int]
    groups: int
    temporary: frozenset[str]
    descriptors: Mapping[str, int]


def children(server: LocalServer) -> dict[str, int]:
    """Name the processes of a server."""
    run = runfile.read(server.data_dir / "run.json")
    assert run is not None
    return {one.name: one.pid for one in run.children if one.pid is not None}


def seen(server: LocalServer, temporary: Path) -> Traces:
    """Count now."""
    own = children(server)
    zygotes = {name: pid for name, pid in own.items() if name.startswith("zygote")}
    return Traces(
        processes=_processes(server.pid),
        mounts={"host": _mounts("self"), **{name: _mounts(str(pid)) for name, pid in zygotes.items()}},
        groups=sum(_groups(pid) for pid in zygotes.values()),
        temporary=frozenset(str(path.relative_to(temporary)) for path in temporary.rglob("*")),
        descriptors={name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in own.items()},  # noqa: PTH208 - pids go
    )


def settled(server: LocalServer, temporary: Path, most_s: float = 30) -> Traces:
    """Count once nothing changes any more: boxes are made and ended in the background."""
    ends_s = time.monotonic() + most_s
    counts = [seen(server, temporary)]
    while len(counts) < 4 or any(one != counts[-1] for one in counts[-4:]):
        assert time.monotonic() < ends_s, counts[-2:]
        time.sleep(0.5)
        counts.append(seen(server, temporary))
    return counts[-1]


def resident_bytes(pid: int) -> int:
    """Memory of a process that lies in RAM."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _processes(root: int) -> Mapping[str, int]:
    parents, names = {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            name, _, rest = (place / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:  # it has just ended
            continue
        parents[int(place.name)], names[int(place.name)] = int(rest.split()[1]), name

    def is_below(pid: int) -> bool:
        while pid and pid != root:
            pid = parents.get(pid, 0)
        return pid == root

    return Counter(name for pid, name in names.items() if is_below(pid))


def _mounts(pid: str) -> int:
    return Path(f"/proc/{pid}/mountinfo").read_text().count("\n")


def _groups(zygote: int) -> int:
    begin = f"{NAME}{zygote}-"
    return sum(name.startswith(begin) for _, names, _ in os.walk(_CGROUPS) for name in names)  # some go meanwhile
