"""What a box may take, and the limits of the kernel that stand for it in each of its processes."""

import resource
from dataclasses import dataclass
from typing import Final

OWN_PROCESSES: Final = 2
"""The runner and the interpreter, beside what the settings allow."""
_STACK_BYTES: Final = 64 << 20
_LOCKED_BYTES: Final = 64 << 10
_SIGNALS: Final = 1024
_RUNNER_DESCRIPTORS: Final = 65_536
"""See `processes.take_descriptors`; the runner gives what it starts the lower one."""
_DATA_FACTOR: Final = 4
"""Java, Go and Node set aside more than they use; what is used is counted for the whole box, by its runner."""


@dataclass(frozen=True)
class Limits:
    """Bars of one box, as the section `sandbox.limits` has them.

    Attributes:
        scratch_bytes: Of /tmp; /dev/shm has a quarter of it besides.
        spool_bytes: Of the runner's own files.
        memory_bytes: Of all processes and files together.
        processes: And threads.
        state_bytes: Of a state while it is written or read, beside `memory_bytes`; 0 = it is to fit in those.
    """

    memory_bytes: int
    processes: int
    open_files: int
    workspace_bytes: int
    workspace_files: int
    scratch_bytes: int
    spool_bytes: int
    state_bytes: int = 0


def apply(limits: Limits, *, counts_processes: bool) -> None:
    """Set the limits of this process, which those that it starts inherit.

    Args:
        limits: Of the box.
        counts_processes: Whether the kernel counts the processes of a user per namespace (since Linux 5.14).
    """
    largest_file = max(limits.workspace_bytes, limits.spool_bytes)
    bars = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_DATA: _DATA_FACTOR * limits.memory_bytes,
        resource.RLIMIT_FSIZE: largest_file,
        resource.RLIMIT_MEMLOCK: _LOCKED_BYTES,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NICE: 0,
        resource.RLIMIT_RTPRIO: 0,
        resource.RLIMIT_SIGPENDING: _SIGNALS,
    }
    if counts_processes:
        bars[resource.RLIMIT_NPROC] = limits.processes + OWN_PROCESSES
    for kind, bar in bars.items():
        _lower(kind, bar, bar)
    _lower(resource.RLIMIT_STACK, 8 << 20, _STACK_BYTES)
    _lower(resource.RLIMIT_NOFILE, limits.open_files, _RUNNER_DESCRIPTORS)


def _lower(kind: int, soft: int, hard: int) -> None:
    """Set a limit, never above what this process may have."""
    ceiling = resource.getrlimit(kind)[1]
    if ceiling != resource.RLIM_INFINITY:
        soft, hard = min(soft, ceiling), min(hard, ceiling)
    resource.setrlimit(kind, (soft, hard))
