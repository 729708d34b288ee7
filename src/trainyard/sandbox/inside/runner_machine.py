"""What the runner's jobs share: the loop, the wire, the interpreter, the files and the processes of one box."""

import contextlib
import os
import resource
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from trainyard.sandbox.inside import frames, interpreter, processes
from trainyard.sandbox.inside.outputs import Output
from trainyard.sandbox.inside.runner_interpreter import Interpreter
from trainyard.sandbox.inside.runner_loop import Loop
from trainyard.sandbox.inside.runner_pipes import Pipes
from trainyard.sandbox.inside.runner_wire import Wire
from trainyard.sandbox.inside.spool import Spool, open_directory
from trainyard.sandbox.inside.workspace import Folder
from trainyard.sandbox.inside.workspace_scan import Ledger

_FORK_TRIES, _FORK_PAUSE_S = 100, 0.01


@dataclass(frozen=True, slots=True)
class Setup:
    """How the isolating side has arranged the box.

    Attributes:
        workspace: What the code sees as its files.
        spool: Descriptor of the runner's own directory.
        scratch: Where programs are compiled.
        mounts: Those of its directories that lie in memory and are the box's alone.
        libraries: Directories with packages for the interpreter.
        environ: Of everything that runs.
        open_files: Descriptors that each of its processes may have.
        state_bytes: Room for a state beside the memory of runs.
    """

    workspace: str
    spool: int
    scratch: str
    mounts: tuple[str, ...]
    libraries: tuple[str, ...]
    environ: dict[str, str]
    open_files: int
    state_bytes: int


class Machine:
    """One box from the inside."""

    def __init__(self, setup: Setup, loop: Loop, wire: Wire) -> None:
        self.setup, self.loop, self.wire = setup, loop, wire
        self.tree = processes.Tree()
        self.meter = processes.Meter(self.tree, setup.mounts)
        workspace = open_directory(setup.workspace)
        self.files, self.ledger = Folder(workspace), Ledger(workspace)
        self.spool = Spool(setup.spool)
        self.outputs: dict[str, Output] = {}
        self.was_lost = False
        self.on_answer: Callable[[frames.Header], None] = self.distrust_unasked
        self.interpreter = self._new_interpreter()
        self._pipes: Pipes | None = None
        self.prepare()

    def prepare(self) -> None:
        """Open what the next run needs; where that is not to be had now, the run asks again."""
        with contextlib.suppress(OSError):
            self._pipes = Pipes(self.loop)

    def take_pipes(self) -> Pipes:
        """Give the pipes to a run, which closes them."""
        pipes, self._pipes = self._pipes, None
        return pipes or Pipes(self.loop)

    def _new_interpreter(self) -> Interpreter:
        """Fork one; where the last run has used up all processes, as soon as they are waited for."""
        surroundings = interpreter.Surroundings(self.setup.workspace, self.setup.libraries, self.setup.environ)
        for _ in range(_FORK_TRIES):
            try:
                return Interpreter(self.loop, surroundings, self._forget_all, lambda header: self.on_answer(header))
            except BlockingIOError:
                self.reap()
                time.sleep(_FORK_PAUSE_S)
        return Interpreter(self.loop, surroundings, self._forget_all, lambda header: self.on_answer(header))

    def _forget_all(self) -> None:
        """Give back, in a child, what is the runner's."""
        self.bound_child()
        self.loop.close()
        self.wire.close()
        for output in self.outputs.values():
            output.close()

    def distrust_unasked(self, _header: frames.Header) -> None:
        """Replace an interpreter that speaks without being asked: its code plays it."""
        self.interpreter.distrust()
        self.restore_interpreter()

    def bound_child(self) -> None:
        """Lower, in a child, the limits that are higher for the runner."""
        processes.bound_descriptors(self.setup.open_files)

    def restore_interpreter(self) -> None:
        """Put a new interpreter where one has ended against the will of the runner; the next report says so."""
        if self.interpreter.is_distrusted and not self.interpreter.is_gone:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.interpreter.pid, 0)  # it was killed: the next order is for another
            self.interpreter.is_gone = True
        if self.interpreter.is_gone:
            self.was_lost = True
            self._replace_interpreter()

    def _replace_interpreter(self) -> None:
        self.interpreter.close()
        self.interpreter = self._new_interpreter()

    def discard_interpreter(self) -> None:
        """End the interpreter, with the threads and processes of its code, and begin a new one."""
        self.was_lost = False
        self.tree.kill_all()
        self._replace_interpreter()

    def reap(self) -> list[tuple[int, int, resource.struct_rusage]]:
        """Collect the children that have ended: (pid, status, what they used)."""
        ended = []
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status, used = os.wait4(-1, os.WNOHANG)
                if pid == 0:
                    break
                ended.append((pid, status, used))
                if pid == self.interpreter.pid:
                    self.interpreter.is_gone = True
        return ended

    def keep_outputs(self, outputs: dict[str, Output]) -> None:
        """Let these be the outputs of the last run."""
        for output in self.outputs.values():
            output.close()
        self.outputs = outputs

    def rest(self) -> None:
        """Stop the interpreter until its next order, so that threads and timers which code has left stand still."""
        processes.signal_each([self.interpreter.pid], signal.SIGSTOP)
