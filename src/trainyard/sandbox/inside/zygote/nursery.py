"""The boxes of one zygote, from the order to make one until nothing of it is left."""

import contextlib
import json
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from trainyard.sandbox.inside import runner
from trainyard.sandbox.inside.lockdown.limits import Limits
from trainyard.sandbox.inside.zygote import birth, cgroups, identity, interpreter, root
from trainyard.sandbox.inside.zygote.cgroups import Group, Home

_STATUS_BYTES: Final = 4096


@dataclass
class Box:
    """One box as the zygote knows it.

    Attributes:
        parent: Of process 1; ends when that is born.
        pid: Of process 1, in the zygote's pid namespace; None until it is born.
        control: The server's end of the socket, until it is handed over.
        status: Reading end of the status pipe; -1 when it has been read to its end.
    """

    id: int
    parent: int
    host_id: int | None
    group: Group | None
    control: socket.socket
    status: int
    pid: int | None = None
    is_ready: bool = False
    failure: str | None = None
    text: bytes = field(default=b"", repr=False)

    @property
    def is_settled(self) -> bool:
        """Whether it is known how its birth went."""
        return self.failure is not None or (self.is_ready and self.pid is not None)


class Nursery:
    """Makes boxes, knows the living ones, buries the dead.

    Args:
        host_ids: None when boxes are the user that the zygote is.
        enter: What a box does when it is locked down; the runner when left out.
    """

    def __init__(
        self,
        protection: birth.Protection,
        bars: Limits,
        covered: Sequence[str],
        host_ids: identity.HostIds | None,
        home: Home | None,
        enter: birth.Enter | None = None,
    ) -> None:
        self._protection, self._bars, self._covered = protection, bars, covered
        self._host_ids, self._home = host_ids, home
        self._enter: birth.Enter = enter or enter_runner
        self._boxes: dict[int, Box] = {}
        self._made = 0
        self._emptied: list[Group] = []

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
            order = birth.Birth(
                self._protection, self._bars, self._covered, host_id, group, theirs.fileno(), writing, self._enter
            )  # fmt: skip
            parent = birth.begin(order)
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
            _note(box, json.loads(line))
        if not received:
            os.close(box.status)
            box.status = -1
            if not box.is_settled:
                box.failure = "its process 1 was ended before it was ready"

    def reap(self, on_end: Callable[[Box], None]) -> None:
        """Collect processes that have ended; `on_end` is told of boxes that have."""
        with contextlib.suppress(ChildProcessError):
            while (pid := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                for box in self.boxes:
                    if box.pid == pid:
                        self._bury(box)
                        on_end(box)
        self._emptied = [group for group in self._emptied if not group.remove()]

    def discard(self, box: Box) -> None:
        """End a box that nobody gets."""
        box.control.close()
        if box.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(box.pid, signal.SIGKILL)
        else:
            self._bury(box)

    def _bury(self, box: Box) -> None:
        self._boxes.pop(box.id, None)
        box.control.close()
        if box.status >= 0:
            os.close(box.status)
            box.status = -1
        self._bury_group(box.group)

    def _bury_group(self, group: Group | None) -> None:
        if group is not None and not group.remove():
            self._emptied.append(group)

    @property
    def has_left_groups(self) -> bool:
        """Whether control groups wait for their last process to be gone."""
        return bool(self._emptied)

    def end_all(self) -> None:
        """End every box and wait until nothing of them is left."""
        for box in self.boxes:
            self.discard(box)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-1, 0)
        for box in self.boxes:
            self._bury(box)
        self._emptied = [group for group in self._emptied if not group.remove()]


def enter_runner(control: int, spool: int) -> None:
    """Be the runner of this box."""
    spool_directory = f"/proc/self/fd/{spool}"
    runner.main(
        control,
        root.WORKSPACE,
        spool_directory,
        mounts=(*root.WRITABLE, spool_directory),
        libraries=(interpreter.SITE_PACKAGES,),
        environ={**runner.ENVIRON, "PATH": f"{interpreter.BIN}:{runner.ENVIRON['PATH']}"},
    )


def _note(box: Box, fact: dict[str, object]) -> None:
    if isinstance(pid := fact.get("pid"), int):
        box.pid = pid
    if fact.get("ready"):
        box.is_ready = True
    if "failed" in fact:
        box.failure = str(fact["failed"])
