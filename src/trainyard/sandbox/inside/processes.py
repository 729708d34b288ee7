"""The processes of a box: who they are, what they take, and how they are ended all at once."""

import contextlib
import ctypes
import os
import resource
import signal
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from trainyard.sandbox.inside import kernel

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_ROUNDED_S = 2 / _TICKS_PER_S
"""What /proc leaves out at most of the children a process has waited for: user and system time, each rounded down."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_BEGINNING_BYTES = 4096
NICENESS = 5
"""Of user code: a third of the processor's time when the runner or the server wants it too (kernel/sched/core.c)."""
_INODE_BYTES = 1024
"""Memory of the kernel for a file of a tmpfs, however empty: its inode and its name (slabinfo: 768 + 192)."""
_SA_NOCLDSTOP = 1
_SOCKET_BYTES = 208 << 10
"""What the kernel keeps for one at most that is not TCP (net.core.wmem_default); no process shows it."""
_OWN_SOCKETS = 8
"""Of the runner and its interpreter, rounded up."""
_ENDED = "ZXx"


class Sample(NamedTuple):
    """What `/proc/PID/stat` says of one process.

    Attributes:
        cpu_s: Of itself; `reaped_cpu_s` of the children that it has waited for.
        started: Clock ticks since boot; tells two processes with one id apart.
    """

    pid: int
    parent: int
    state: str
    cpu_s: float
    reaped_cpu_s: float
    threads: int
    started: int
    rss_bytes: int

    @property
    def is_alive(self) -> bool:
        """Whether it can still do something.

        A zombie waits only for its parent to ask; one that has threads left has ended its first thread alone.
        """
        return self.state not in _ENDED or self.threads > 1


def look(pid: int) -> Sample | None:
    """Sample one process; None when it is gone."""
    words = _beginning(f"/proc/{pid}/stat").rpartition(b")")[2].split()
    if len(words) < 22:
        return None
    ticks = [int(word) for word in words[11:15]]
    state, threads, rss_bytes = words[0].decode(), int(words[17]), int(words[21]) * _PAGE_BYTES
    if state in _ENDED and threads > 1:
        rss_bytes = _rss_of_threads(pid)
    return Sample(
        pid=pid,
        parent=int(words[1]),
        state=state,
        cpu_s=_cpu_clock_s(pid, (ticks[0] + ticks[1]) / _TICKS_PER_S),
        reaped_cpu_s=(ticks[2] + ticks[3]) / _TICKS_PER_S,
        threads=threads,
        started=int(words[19]),
        rss_bytes=rss_bytes,
    )


def _rss_of_threads(pid: int) -> int:
    """Resident memory of a process whose first thread has ended: /proc/PID/stat shows none, that of the others does."""
    found = 0
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 hot
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/statm", "rb") as file:  # noqa: PTH123 hot
                found = max(found, int(file.read().split()[1]) * _PAGE_BYTES)
    return found


def _cpu_clock_s(pid: int, otherwise_s: float) -> float:
    """Read the CPU clock of a process: in nanoseconds, where a tick has 10 ms; made as linux/posix-timers.h says."""
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return otherwise_s


def peak_rss_bytes(pid: int) -> int:
    """Highest resident memory that a process ever had; 0 when it is gone."""
    words = _status(pid, b"VmHWM:")
    return int(words[0]) * 1024 if words else 0


def is_deaf(pid: int, signum: int) -> bool:
    """Whether a process ignores a signal now."""
    words = _status(pid, b"SigIgn:")
    return bool(words) and bool(int(words[0], 16) >> (signum - 1) & 1)


def _status(pid: int, name: bytes) -> list[bytes]:
    """Words of one line of `/proc/PID/status`; none when the process is gone."""
    text = _beginning(f"/proc/{pid}/status")
    found = text.find(b"\n" + name)  # the line before is the name of the program, which is anything
    return text[found + 1 + len(name) :].split(b"\n", 1)[0].split() if found >= 0 else []


def _beginning(path: str) -> bytes:
    """Read the first bytes of a file of the kernel, with half the calls of a file object; none when it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, _BEGINNING_BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _proportional_bytes(pid: int) -> int | None:
    """Resident memory with shared pages divided among those who share them; None where it may not be read."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:  # noqa: PTH123 pathlib costs three times as much
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except PermissionError:
        return None
    except OSError:
        return 0  # it has ended meanwhile
    return 0


class Tree:
    """Every process of the box but the runner itself.

    As process 1 of a pid namespace that is all of /proc; elsewhere (tests) the descendants, orphans included.
    """

    def __init__(self) -> None:
        self._me = os.getpid()
        self._is_init = self._me == 1

    def pids(self) -> list[int]:
        """Ids of all of them, zombies included."""
        if self._is_init:
            return [int(name) for name in os.listdir("/proc") if name.isdigit() and name != "1"]  # noqa: PTH208 hot
        found, queue = list[int](), [self._me]
        while queue:
            children = self._children(queue.pop())
            found += children
            queue += children
        return found

    @staticmethod
    def _children(pid: int) -> list[int]:
        found = list[int]()
        with contextlib.suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 hot
                with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:  # noqa: PTH123 hot
                    found += [int(word) for word in file.read().split()]
        return found

    def sockets(self) -> int:
        """Sockets that its code has open, those on their way through others included; 0 where they are not its own."""
        if not self._is_init:
            return 0
        words = _beginning("/proc/net/sockstat").split(None, 3)
        return max(int(words[2]) - _OWN_SOCKETS, 0) if len(words) > 2 else 0

    def samples(self) -> list[Sample]:
        """What each of them takes now."""
        return [sample for pid in self.pids() if (sample := look(pid)) is not None]

    def others(self, spared: int | None) -> list[int]:
        """Those that are alive, but `spared`."""
        return [sample.pid for sample in self.samples() if sample.is_alive and sample.pid != spared]

    def freeze(self) -> None:
        """Stop all of them, so that none can fork while they are ended one by one."""
        if self._is_init:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGSTOP)
            return
        signal_each(self.pids(), signal.SIGSTOP)

    def kill_all(self) -> None:
        """End all of them."""
        if self._is_init:
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, signal.SIGKILL)
            return
        self.freeze()
        signal_each(self.pids(), signal.SIGKILL)


def signal_each(pids: Iterable[int], signum: int) -> None:
    """Send a signal to each that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signum)


def signal_group(leader: int, signum: int) -> None:
    """Send a signal to a process and to those that share its group, as a terminal does."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if os.getpgid(leader) == leader:
            os.killpg(leader, signum)
        else:
            os.kill(leader, signum)


class Meter:
    """CPU and memory of the whole box.

    CPU seconds are the greater of two counts that miss different things: what parents were told when they waited, and
    what was seen of each process while it lived (a parent that ignores SIGCHLD is told nothing).

    Attributes:
        resting_cpu_s: What was measured last, as long as nothing has run since.
    """

    def __init__(self, tree: Tree, mounts: Sequence[str]) -> None:
        self._tree, self._mounts = tree, mounts
        self._seen: dict[tuple[int, int], float] = {}
        self._gone_s = 0.0
        self._told_pid, self._told_s = 0, 0.0
        self.resting_cpu_s: float | None = None

    def tell_of_children(self, pid: int, cpu_s: float) -> None:
        """Take what a process says its children have taken that it has waited for.

        It is believed within the tick up to which /proc tells it: code may write what it likes in its name.
        """
        self._told_pid, self._told_s = pid, cpu_s

    def measure(self, *, with_sockets: bool = True) -> tuple[float, int, list[Sample]]:
        """CPU seconds since the box began, bytes of memory now, and the processes that were seen.

        Args:
            with_sockets: Whether to count what sockets may take: it takes a while, and is for watching a limit.
        """
        samples = self._tree.samples()
        shared_bytes = self._shared_bytes() if with_sockets else self.files_bytes()
        return self._cpu_s(samples), sum(sample.rss_bytes for sample in samples) + shared_bytes, samples

    def _cpu_s(self, samples: Sequence[Sample]) -> float:
        now = {(sample.pid, sample.started): sample.cpu_s for sample in samples}
        self._gone_s += sum(cpu_s for key, cpu_s in self._seen.items() if key not in now)
        self._seen = now
        waited = resource.getrusage(resource.RUSAGE_CHILDREN)
        told_s = waited.ru_utime + waited.ru_stime + sum(sample.cpu_s + self._reaped_s(sample) for sample in samples)
        return max(told_s, self._gone_s + sum(now.values()))

    def _reaped_s(self, sample: Sample) -> float:
        if sample.pid != self._told_pid:
            return sample.reaped_cpu_s
        return min(max(self._told_s, sample.reaped_cpu_s), sample.reaped_cpu_s + _ROUNDED_S)

    def _shared_bytes(self) -> int:
        return self.files_bytes() + (self._tree.sockets() * _SOCKET_BYTES)

    def files_bytes(self) -> int:
        """What the files of the box take in memory."""
        used = 0
        for mount in self._mounts:
            with contextlib.suppress(OSError):
                about = os.statvfs(mount)
                used += (about.f_blocks - about.f_bfree) * about.f_frsize
                used += (about.f_files - about.f_ffree) * _INODE_BYTES
        return used

    def proportional_bytes(self, samples: Sequence[Sample]) -> int:
        """Memory with what processes share counted once: slower, and asked only before a run is ended for it."""
        shares = ((_proportional_bytes(one.pid) if one.state not in _ENDED else None, one.rss_bytes) for one in samples)
        return sum(rss if share is None else share for share, rss in shares) + self._shared_bytes()


def give_way(leader: int = 0) -> None:
    """Let a process and its group yield to the runner, which keeps their clocks, and to the server; 0 = this one."""
    os.setpriority(os.PRIO_PGRP, leader, NICENESS)


def take_descriptors() -> int:
    """Let this process open all that it may; gives what it could open before, for those that it starts.

    Descriptors on their way through sockets are counted by user of the host, and refused to a sender beyond his own
    limit. Where all boxes are one user, one of them could so keep the runners of the others from their interpreters.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return soft


def bound_descriptors(count: int) -> None:
    """Take `take_descriptors` back for good, in a child."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def hide() -> None:
    """Let no process of the same user read the memory and descriptors of this one, or trace it."""
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)


def show() -> None:
    """Take `hide` back, in a child: its `/proc/self` belongs to it again."""
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)


def adopt_orphans() -> None:
    """Have the orphans among the descendants become children of this process, as those of process 1 do."""
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)


class _SignalAction(ctypes.Structure):
    """Of glibc, on 64-bit Linux."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


def hear_only_ends() -> None:
    """Have SIGCHLD tell of children that ended, not of those that were stopped and continued."""
    action = _SignalAction()
    for new, old in ((None, ctypes.byref(action)), (ctypes.byref(action), None)):
        if _libc.sigaction(signal.SIGCHLD, new, old) != 0:
            raise OSError(ctypes.get_errno(), "sigaction")
        action.flags |= _SA_NOCLDSTOP


_libc = ctypes.CDLL(None, use_errno=True)
