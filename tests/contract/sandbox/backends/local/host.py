"""What the host shows of boxes: their processes, their memory, their control groups."""

import asyncio
import errno
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from io import FileIO
from mmap import PAGESIZE
from pathlib import Path

from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.inside.zygote import cgroups

GONE_S = 20.0
FORKING = "import os, time\nfor _ in range(5):\n    if os.fork() == 0: time.sleep(1000)\ntime.sleep(1000)"
"""Code that has six processes, the interpreter included."""


def is_there(pid: int) -> bool:
    """Whether a process lives; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def owner_of(pid: int) -> int:
    """Effective user id of a process, as this machine has it."""
    return int(Path(f"/proc/{pid}/status").read_text().split("\nUid:")[1].split()[1])


def tree_of(pid: int) -> set[int]:
    """Ids of a process and all below it."""
    found, queue = {pid}, [pid]
    while queue:
        for children in Path(f"/proc/{queue.pop()}/task").glob("*/children"):
            try:
                new = {int(word) for word in children.read_text().split()} - found
            except (FileNotFoundError, ProcessLookupError):
                continue
            found |= new
            queue += new
    return found


async def until(holds: Callable[[], bool], what: str) -> None:
    """Wait for something that is sure to come."""
    deadline = time.monotonic() + GONE_S
    while not holds():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.02)


async def until_forked(box: Box) -> None:
    """Wait until the processes of `FORKING` are there."""
    deadline = time.monotonic() + GONE_S
    while (await box.usage()).processes < 6:
        assert time.monotonic() < deadline, "it does not fork"
        await asyncio.sleep(0.02)


def namespace_of(pid: int, name: str) -> str:
    """Which namespace of a kind a process is in."""
    return str(Path(f"/proc/{pid}/ns/{name}").readlink())


def descriptors_of(pid: int | None) -> int:
    """How many descriptors a process has open; None = this one."""
    return len(list(Path(f"/proc/{pid or 'self'}/fd").iterdir()))


def environment_of(pid: int) -> bytes:
    """Variables that a process was started with."""
    return Path(f"/proc/{pid}/environ").read_bytes()


async def until_gone(pids: Iterable[int]) -> None:
    every = list(pids)
    await until(lambda: not any(map(is_there, every)), f"of {every} some are still there")


def groups_of(zygote: int) -> list[Path]:
    """Control groups that this zygote has made and not removed; others may come and go meanwhile."""
    prefix = f"{cgroups.NAME}{zygote}-"
    walked = os.walk("/sys/fs/cgroup")
    return [Path(above, name) for above, names, _files in walked for name in names if name.startswith(prefix)]


def memory_of(pid: int) -> Iterator[bytes]:
    """Everything that a process can read of its own memory, by mapping."""
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            if line.split()[1].startswith("r") and not re.search(r"\[(vvar|vsyscall|vvar_vclock)\]", line):
                yield b"".join(_readable(memory, start, end))


def _readable(memory: FileIO, start: int, end: int) -> Iterator[bytes]:
    """A mapping without those of its pages that nobody can read, as past the end of a mapped file."""
    while start < end:
        memory.seek(start)
        try:
            part = memory.read(end - start)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            part = b""
        yield part
        start += len(part) or PAGESIZE
