"""The boxes of one zygote, from the order to make one until nothing of it is left."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from trainyard.sandbox.inside.lockdown.limits import Limits
from trainyard.sandbox.inside.zygote import cgroups, identity, status
from trainyard.sandbox.inside.zygote.birth import Newborn
from trainyard.sandbox.inside.zygote.cgroups import Group, Home

_STATUS_BYTES: Final = 4096


@dataclass
class Box:
    """One box as the zygote knows it.

    Attributes:
        parent: Of process 1; ends when that is born, or stays to the end.
        pid: Of process 1, in our pid namespace; None until it is born.
        control: The server's end of the socket, until it is handed over.
        status: Reading end of the status pipe; -1 when it has been read to its end.
        told: What it said when it was ready.
    """

    id: int
    parent: int
    host_id: int | None
    group: Group | None
    control: socket.socket
    status: int
    pid: int | None = None
    is_ready: bool = False
    told: object = None
    failure: str | None = None
    text: bytes = field(default=b"", repr=False)

    @property
    def is_settled(self) -> bool:
        """Whether it is known how its birth went."""
        return self.failure is not None or (self.is_ready and self.pid is not None)


class Nursery:
    """Makes boxes, knows the living ones, buries the dead.

    Args:
        begin: Starts the making of a box; gives the pid of the parent of its process 1.
        host_ids: None when boxes are the user that this process is.
        is_attended: Whether that parent stays, collects process 1 and takes it along when it is ended.
    """

    def __init__(
        self,
        begin: Callable[[Newborn], int],
        bars: Limits,
        host_ids: identity.HostIds | None,
        home: Home | None,
        *,
        is_attended: bool = False,
    ) -> None:
        self._begin, self._bars, self._is_attended = begin, bars, is_attended
        self._host_ids, self._home = host_ids, home
        self._boxes: dict[int, Box] = {}
        self._made = 0
        self._emptied: list[Group] = []
        self._has_orphans = home is not None

    @property
    def boxes(self) -> list[Box]:
        """Those that are alive or being made."""
        return list(self._boxes.values())

    def begin(self) -> Box:
        """Begin to make a box; `read_status` tells how it goes on.

        Raises:
            OSError: Its control group or its first process cannot be made.
        """
        self._made += 1
        host_id = self._host_id()
        ours, theirs = socket.socketpair()
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        group = None
        try:
            if self._home is not None:
                group = Group(self._home, cgroups.name_of(self._made), self._bars)
            parent = self._begin(Newborn(host_id, group, theirs.fileno(), writing))
        except OSError:
            os.close(reading)
            ours.close()
            self._bury_group(group)
            raise
        finally:
            os.close(writing)
            theirs.close()
        box = Box(self._made, parent, host_id, group, ours, reading)
        self._boxes[box.id] = box
        return box

    def _host_id(self) -> int | None:
        if self._host_ids is None:
            return None
        return self._host_ids.take({box.host_id for box in self._boxes.values() if box.host_id is not None})

    def read_status(self, box: Box) -> None:
        """Read what has come over the status pipe."""
        try:
            received = os.read(box.status, _STATUS_BYTES)
        except BlockingIOError:
            return
        box.text += received
        *lines, box.text = box.text.split(b"\n")
        for line in lines:
            _note(box, status.read(line))
        if not received:
            self.hear_no_more(box)
            if not box.is_settled:
                box.failure = "its process 1 was ended before it was ready"

    def hear_no_more(self, box: Box) -> None:
        """Close its status pipe: a box that lives has nothing more to say, and there may be thousands."""
        if box.status >= 0:
            os.close(box.status)
            box.status = -1

    def reap(self, on_end: Callable[[Box], None]) -> None:
        """Collect processes that have ended; `on_end` is told of boxes that have, before they are forgotten."""
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                for box in self.boxes:
                    if self._last_of(box) == pid:
                        on_end(box)
                        self._bury(box)
                        self._end_left_behind()
        self._emptied = [group for group in self._emptied if not group.remove()]

    def _end_left_behind(self) -> None:
        """End whom the parent of a process 1 has left to us: one that was killed before its box was its own."""
        if self._is_attended:
            _kill(set(_children()) - {box.parent for box in self._boxes.values()})

    def discard(self, box: Box) -> None:
        """End a box that nobody gets."""
        box.control.close()
        if (last := self._last_of(box)) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(last, signal.SIGKILL)
        else:
            self._bury(box)

    def _last_of(self, box: Box) -> int | None:
        """Our child whose end is the end of the box; None until there is one."""
        return box.parent if self._is_attended else box.pid

    def _bury(self, box: Box) -> None:
        self._boxes.pop(box.id, None)
        box.control.close()
        self.hear_no_more(box)
        self._bury_group(box.group)

    def _bury_group(self, group: Group | None) -> None:
        if group is not None and not group.remove():
            self._emptied.append(group)

    @property
    def is_untidy(self) -> bool:
        """Whether control groups wait for their last process to be gone, our own or those of dead zygotes."""
        return bool(self._emptied) or self._has_orphans

    def tidy(self) -> None:
        """Remove the control groups that are empty by now."""
        self._emptied = [group for group in self._emptied if not group.remove()]
        if self._has_orphans and self._home is not None:
            self._has_orphans = cgroups.sweep(self._home)

    def end_all(self) -> None:
        """End every box and wait until nothing of them is left."""
        for box in self.boxes:
            self.discard(box)
        end_children()
        for box in self.boxes:
            self._bury(box)
        self._emptied = [group for group in self._emptied if not group.remove()]


def end_children() -> None:
    """End every child of this process, and those that fall to it as others end, and wait for all of them.

    What makes a box may leave somebody behind when it is killed itself: bubblewrap its process 1, which waits for it.
    """
    with contextlib.suppress(ChildProcessError):
        while True:
            _kill(_children())
            os.waitpid(-1, 0)


def _children() -> list[int]:
    with contextlib.suppress(OSError):
        return [int(child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    return []


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _note(box: Box, fact: Mapping[str, object]) -> None:
    if isinstance(pid := fact.get("pid", fact.get("child-pid")), int):
        box.pid = pid
    if ready := fact.get("ready"):
        box.is_ready, box.told = True, ready
    if "failed" in fact:
        box.failure = str(fact["failed"])
