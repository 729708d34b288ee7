"""The backend that ships for tests: real runners in plain child processes, WITHOUT any isolation.

Code that runs here can do whatever the user of this process can: read files, reach the network, end other processes.
The settings cannot choose it. Files lie in temporary directories that are gone when a box is closed.
"""

import asyncio
import itertools
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from trainyard.core import errors
from trainyard.sandbox.backends.base import Layer, Running
from trainyard.sandbox.backends.box import RunnerBox
from trainyard.sandbox.inside import workspace
from trainyard.sandbox.types.orders import Flavor

_PROGRAM = Path(__file__).parents[1] / "inside"


class FakeBackend:
    """Implements `Backend` without isolation: no limit that the kernel would enforce holds.

    Args:
        max_boxes: More are refused with errors.Unavailable.
        libraries: Directories with packages that the code can import, beside those of this interpreter.
        is_elsewhere: Whether boxes are asked for their languages, as those of another machine are.
    """

    name = "fake"

    def __init__(self, *, max_boxes: int = 64, libraries: Sequence[Path] = (), is_elsewhere: bool = False) -> None:
        self.is_elsewhere = is_elsewhere
        self._max_boxes, self._libraries = max_boxes, tuple(libraries)
        self._numbers = itertools.count(1)
        self._boxes: dict[str, tuple[RunnerBox, int, Flavor]] = {}

    async def start(self) -> None:
        """Nothing is kept ready: a box takes as long as Python takes to start."""

    async def take(self, flavor: Flavor, tenant: str) -> RunnerBox:
        """Start a runner; the flavour decides nothing, since packages are imported when the code asks for them."""
        if len(self._boxes) >= self._max_boxes:
            raise errors.Unavailable(f"all {self._max_boxes} boxes are taken", code="sandbox_unavailable")
        box_id = f"fake-{next(self._numbers)}"
        home = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="trainyard-fake-"))
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.to_thread(self._start, home, theirs)

        async def end() -> None:
            self._boxes.pop(box_id, None)
            await asyncio.to_thread(_end, process, home)

        box = await RunnerBox.connect(ours, box_id, end)
        self._boxes[box_id] = (box, process.pid, flavor)
        return box

    def _start(self, home: Path, theirs: socket.socket) -> "subprocess.Popen[bytes]":
        places = [home / name for name in ("data", "spool", "scratch")]
        for place in places:
            place.mkdir()
        arguments = ["--fd", str(theirs.fileno()), "--workspace", str(places[0]), "--spool", str(places[1])]
        arguments += ["--scratch", str(places[2]), "--env", f"TMPDIR={places[2]}"]
        for library in self._libraries:
            arguments += ["--library", str(library)]
        return subprocess.Popen(
            [sys.executable, "-I", str(_PROGRAM), *arguments],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )

    async def ping(self) -> None:
        """Return: a process can always be started."""

    def layers(self) -> Sequence[Layer]:
        """Tell that nothing isolates."""
        return [Layer("isolation", is_held=False, detail="none: this backend is for tests")]

    def running(self) -> Sequence[Running]:
        """List its boxes."""
        return [Running(box_id, pid, flavor, True) for box_id, (_box, pid, flavor) in self._boxes.items()]

    async def aclose(self) -> None:
        """End every box."""
        for box, _pid, _flavor in list(self._boxes.values()):
            await box.close()


def _end(process: "subprocess.Popen[bytes]", home: Path) -> None:
    """Wait for a runner whose connection is closed; it takes everything along. Kill it when it does not."""
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    workspace.remove_tree(str(home))
