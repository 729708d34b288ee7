"""Process 1 of a box: reads orders, has them worked on, keeps the clocks; trusts nothing that it runs."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainyard.sandbox.inside import frames, processes, runner_interpreter, workspace
from trainyard.sandbox.inside.runner_jobs import Job
from trainyard.sandbox.inside.runner_loop import Loop
from trainyard.sandbox.inside.runner_machine import Machine, Setup
from trainyard.sandbox.inside.runner_runs import Cell, ProgramRun, Question
from trainyard.sandbox.inside.runner_transfers import Transfers
from trainyard.sandbox.inside.runner_wire import Wire
from trainyard.sandbox.inside.spool import open_directory

_TEMPORARY = "/tmp"  # noqa: S108 the box's own
ENVIRON: Mapping[str, str] = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": _TEMPORARY,
    "TMPDIR": _TEMPORARY,
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUNBUFFERED": "1",
    "MPLBACKEND": "Agg",
    "MPLCONFIGDIR": _TEMPORARY,
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
"""What every run finds in its environment, where the isolating side says nothing else."""
QUESTION_LIMITS = {"timeout_s": 60.0, "cpu_s": 60.0, "memory_bytes": 1 << 40}
"""Of `variables`, `dump` and `load`, where the order has no others; memory: those of the last run, and of the state."""
_ANY_STATE_BYTES = 1 << 40


class Runner:
    """Carries out the orders of one server, a run at a time."""

    def __init__(self, setup: Setup, reading: int, writing: int) -> None:
        loop = Loop()
        wire = Wire(loop, reading, writing, self._on_frame, loop.stop)
        loop.on_children(self._on_children)
        self._machine = Machine(setup, loop, wire)
        self._transfers = Transfers(self._machine)
        self._job: Job | None = None
        self._memory_bytes = int(QUESTION_LIMITS["memory_bytes"])
        self._resetting: Any = None
        self._orders: dict[str, Callable[[frames.Header, bytes], None]] = {
            "run": self._run,
            "interrupt": self._interrupt,
            "put": self._transfers.put,
            "get": self._transfers.get,
            "delete": self._delete,
            "accept": self._accept,
            "variables": self._ask,
            "dump": self._ask,
            "load": self._ask,
            "reset": self._reset,
            "usage": self._usage,
        }

    def serve(self) -> None:
        """Work until the server is gone, and take everything along."""
        self._machine.loop.run()
        self._machine.tree.kill_all()

    def _on_frame(self, header: frames.Header, payload: bytes) -> None:
        if header.get("event") == "data":
            self._transfers.data(header, payload)
            return
        op = header.get("op", "")
        order = self._orders.get(op)
        try:
            if order is None:
                raise workspace.Refused("unknown_order", f"there is no order {op!r}")
            if self._job is not None and op not in ("interrupt", "usage", "get", "reset"):
                raise workspace.Refused("busy", f"{op!r} has to wait for the end of what runs")
            order(header, payload)
        except workspace.Refused as refused:
            self._machine.wire.send(
                {"id": header.get("id"), "event": "failed", "code": refused.code, "message": str(refused)}
            )
        except OSError as error:
            message = f"{op}: {error.strerror}"
            self._machine.wire.send({"id": header.get("id"), "event": "failed", "code": "io_error", "message": message})

    def _done(self, order: Mapping[str, Any], **facts: object) -> None:
        self._machine.wire.send({"id": order["id"], "event": "done", **facts})

    def _work_on(self, job: Job) -> None:
        self._job = job
        job.on_conclusion = self._conclude
        job.begin()

    def _conclude(self) -> None:
        self._job = None
        if self._resetting is not None:
            order, self._resetting = self._resetting, None
            self._reset(order, b"")

    def _run(self, order: frames.Header, payload: bytes) -> None:
        if order["continues"]:
            self._check_interpreter()
        self._memory_bytes = order["memory_bytes"]
        kind = Cell if order["program"] is None else ProgramRun
        self._work_on(kind(self._machine, order, payload))

    def _ask(self, order: frames.Header, _payload: bytes) -> None:
        if order["op"] == "load":
            self._machine.was_lost = False
        else:
            self._check_interpreter()
        limits = QUESTION_LIMITS | {"memory_bytes": self._memory_bytes + self._state_bytes(order)}
        self._work_on(Question(self._machine, limits | order))

    def _check_interpreter(self) -> None:
        """Refuse what is meant for an interpreter that has ended since the last report; the new one knows nothing."""
        self._on_children()  # it may have ended at this moment
        if self._machine.was_lost:
            raise workspace.Refused("interpreter_gone", "the interpreter has ended; its variables are gone")

    def _state_bytes(self, order: frames.Header) -> int:
        """Tell what a state may take besides the memory of runs: it lies in the spool, which counts as memory."""
        sizes = {"dump": lambda: int(order["max_bytes"]), "load": self._machine.spool.state_bytes}
        return min(sizes.get(order["op"], int)(), self._machine.setup.state_bytes)

    def _interrupt(self, order: frames.Header, _payload: bytes) -> None:
        if self._job is not None:
            self._job.interrupt()
        self._done(order)

    def _delete(self, order: frames.Header, _payload: bytes) -> None:
        self._done(order, existed=self._transfers.folder(order).delete(order["path"]))

    def _accept(self, order: frames.Header, _payload: bytes) -> None:
        self._machine.ledger.accept()
        self._done(order)

    def _reset(self, order: frames.Header, _payload: bytes) -> None:
        if self._job is not None:
            self._resetting = order
            self._job.stop("killed", is_gentle=False)
            return
        self._machine.discard_interpreter()
        self._done(order)

    def _usage(self, order: frames.Header, _payload: bytes) -> None:
        cpu_s, _resident_bytes, samples = self._machine.meter.measure()
        memory_bytes = self._machine.meter.proportional_bytes(samples)
        alive = sum(sample.is_alive for sample in samples)
        self._done(order, memory_bytes=memory_bytes, processes=alive, cpu_s=cpu_s)

    def _on_children(self) -> None:
        for pid, status, used in self._machine.reap():
            if self._job is not None:
                self._job.on_child(pid, status, used)
        if self._job is None:
            self._machine.restore_interpreter()


def main(
    control: int,
    workspace_dir: str,
    spool_dir: str | int,
    *,
    writing: int | None = None,
    scratch: str = _TEMPORARY,
    mounts: Sequence[str] = (),
    libraries: Sequence[str] = (),
    environ: Mapping[str, str] = ENVIRON,
    state_bytes: int = _ANY_STATE_BYTES,
) -> None:
    """Serve one box until its server is gone; everything of it has ended on return.

    The caller has isolated and locked down the process: what it may do is what user code may do. It has one thread.

    Args:
        control: Connected stream to the server.
        writing: The way to the server, where that is another descriptor.
        workspace_dir: What the code sees as its files.
        spool_dir: A directory for the runner's own files, or a descriptor of one that has no path.
        scratch: Where programs are compiled.
        mounts: Directories of the box alone that lie in memory, each a mount; they count as memory.
        libraries: Directories with packages for the interpreter.
        environ: Environment of everything that runs.
        state_bytes: Room for a state that the caller leaves beside the memory of runs.
    """
    signal.signal(signal.SIGINT, _nothing)
    signal.signal(signal.SIGTERM, _nothing)
    processes.adopt_orphans()
    processes.hide()
    os.chdir(workspace_dir)
    os.environ["PATH"] = environ.get("PATH", os.defpath)
    runner_interpreter.freeze_heap()
    spool = open_directory(spool_dir) if isinstance(spool_dir, str) else spool_dir
    open_files = processes.take_descriptors()
    setup = Setup(
        workspace_dir, spool, scratch, tuple(mounts), tuple(libraries), dict(environ), open_files, state_bytes
    )
    Runner(setup, control, control if writing is None else writing).serve()


def _nothing(signum: int, frame: object) -> None:
    """Outlive a signal from inside the box; unlike SIG_IGN this is not handed on to programs."""


def run_as_program(argv: Sequence[str]) -> None:
    """Serve over an inherited descriptor, or over standard input and output."""
    parser = argparse.ArgumentParser(prog="runner", description="Process 1 of a box of the sandbox.")
    parser.add_argument("--fd", type=int, help="connected stream; standard input and output when left out")
    parser.add_argument("--workspace", required=True, help="directory that the code works in")
    parser.add_argument("--spool", required=True, help="directory for the runner's own files")
    parser.add_argument("--scratch", default=_TEMPORARY, help="directory that programs are compiled in")
    parser.add_argument("--mount", action="append", default=[], help="directory in memory that counts as memory")
    parser.add_argument("--library", action="append", default=[], help="directory with packages")
    parser.add_argument("--env", action="append", default=[], help="NAME=VALUE for everything that runs")
    given = parser.parse_args(argv)
    reading, writing = (given.fd, given.fd) if given.fd is not None else _take_standard_streams()
    environ = {**ENVIRON, **dict(pair.split("=", 1) for pair in given.env)}
    os.set_inheritable(reading, False)
    main(
        reading,
        given.workspace,
        given.spool,
        writing=writing,
        scratch=given.scratch,
        mounts=given.mount,
        libraries=given.library,
        environ=environ,
    )


def _take_standard_streams() -> tuple[int, int]:
    """Move standard input and output out of the way of everything that runs."""
    reading, writing = os.dup(0), os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return reading, writing


if __name__ == "__main__":
    run_as_program(sys.argv[1:])
