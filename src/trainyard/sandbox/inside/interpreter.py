"""The live interpreter: a child of the runner that executes Python in one namespace, and answers about it.

User code runs in its main thread and may do to it whatever Python allows. What that breaks is this process alone: the
runner holds the clocks, reads the outputs and forks a new interpreter when this one is gone.
"""

import contextlib
import os
import posix
import resource
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from trainyard.sandbox.inside import container, frames, processes, state, variables
from trainyard.sandbox.inside.interpreter_baseline import WARNED, Baseline
from trainyard.sandbox.inside.interpreter_cell import Cells, Ended
from trainyard.sandbox.inside.interpreter_streams import Streams
from trainyard.sandbox.inside.spool import STATE
from trainyard.sandbox.inside.workspace import refusal

MAX_ANSWER_BYTES = 12 << 20
"""Of one answer to the runner; results that make it longer are left out, the largest first."""
LOST = 113
"""Exit code of an interpreter that cannot reach its runner any more."""
_READ_BYTES = 64 << 10
_DESCRIPTORS = {"run": 3, "dump": 1, "load": 1}
_MOST_DESCRIPTORS = max(_DESCRIPTORS.values())
"""That come with an order: standard streams, or the file of a state; never a directory of the runner."""
_STANDARD = 2
# Taken before user code is there: what it deletes or replaces in the modules is not missed here.
_receive, _usage = socket.recv_fds, resource.getrusage
_CHILDREN = resource.RUSAGE_CHILDREN


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the isolating side has arranged for user code.

    Attributes:
        libraries: Directories with importable packages, after the standard library.
        environ: What every run finds in its environment.
    """

    workspace: str
    libraries: tuple[str, ...]
    environ: dict[str, str]


def serve(link: socket.socket, surroundings: Surroundings) -> NoReturn:
    """Answer the runner until it is gone; runs in a fresh child, and closes all that it has inherited."""
    for descriptor in map(int, os.listdir("/proc/self/fd")):  # noqa: PTH208 numbers
        if descriptor > _STANDARD and descriptor != link.fileno():
            with contextlib.suppress(OSError):
                os.close(descriptor)
    _settle_in(surroundings)
    try:
        Interpreter(link, surroundings.workspace).serve()
    finally:
        posix._exit(LOST)


def _settle_in(surroundings: Surroundings) -> None:
    os.setsid()
    processes.give_way()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    processes.end_with_parent()
    processes.show()
    os.environ.clear()
    os.environ.update(surroundings.environ)
    os.chdir(surroundings.workspace)
    sys.path[:] = [surroundings.workspace, *(path for path in sys.path if path), *surroundings.libraries]
    sys.dont_write_bytecode = True
    _reseed()


def _reseed() -> None:
    """Give numpy's global generator a seed of its own: brothers forked from one parent would draw the same numbers."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


class Interpreter:
    """One namespace and the orders on it."""

    def __init__(self, link: socket.socket, workspace: str) -> None:
        self._link, self._pid = link, os.getpid()
        self._reader = frames.Reader()
        self._received: list[tuple[frames.Header, bytes]] = []
        self._descriptors: list[int] = []
        self._main = ModuleType("__main__")
        self._main.__dict__["__builtins__"] = sys.modules["builtins"]
        sys.modules["__main__"] = self._main
        self._skip = frozenset(self._main.__dict__)
        self._streams = Streams()
        self._cells = Cells(self._main.__dict__, workspace)
        self._baseline = Baseline(self._main.__dict__)
        os.register_at_fork(after_in_child=link.close)

    def serve(self) -> None:
        """Take orders one by one."""
        while True:
            header = self._receive()
            self._send(self._answer(header))
            if header["op"] == "run":
                self._streams.prepare()  # while nobody waits for it

    def _answer(self, order: frames.Header) -> frames.Header:
        descriptors, self._descriptors = self._descriptors, []
        is_run = order["op"] == "run"
        if len(descriptors) != _DESCRIPTORS.get(order["op"], 0):
            posix._exit(LOST)  # code has left no room for descriptors
        answer = {"id": order["id"], "event": "done"}
        if is_run:
            return answer | self._run(order, descriptors)
        try:
            return answer | self._about(order, *descriptors)
        except container.BadState as error:
            return answer | {"event": "failed", "code": "bad_state", "message": str(error)}
        except OSError as error:
            refused = refusal(error, STATE)
            return answer | {"event": "failed", "code": refused.code, "message": str(refused)}
        finally:
            for descriptor in descriptors:
                posix.close(descriptor)

    def _about(self, order: frames.Header, descriptor: int = -1) -> dict[str, Any]:
        names = self._main.__dict__
        match order["op"]:
            case "variables":
                return {"variables": variables.listing(names, self._skip)}
            case "dump":
                return state.dump(names, self._skip, descriptor, order["max_bytes"])
            case _:
                return state.load(names, Path(f"/proc/self/fd/{descriptor}")) | self._standing()

    def _run(self, order: frames.Header, descriptors: Sequence[int]) -> dict[str, Any]:
        self._streams.open(descriptors)
        ended = self._cells.run(order)
        if posix.getpid() != self._pid:
            self._leave_fork(ended)
        self._streams.close()
        self._baseline.note(ended.source)
        waited = _usage(_CHILDREN)
        told = {"exit_code": ended.exit_code, "results": ended.results}
        return told | {"children_cpu_s": waited.ru_utime + waited.ru_stime} | self._standing()

    def _standing(self) -> dict[str, Any]:
        names = self._main.__dict__.keys() - self._skip - {WARNED}
        return {"variables": len(names), "is_fresh": self._baseline.is_kept()}

    def _leave_fork(self, ended: Ended) -> NoReturn:
        """End a process that user code forked and that came to the end of the code: it is no interpreter."""
        self._streams.flush()
        threading._shutdown()  # type: ignore[attr-defined]  # waits for its threads, as the end of a program does
        posix._exit(ended.exit_code)

    def _receive(self) -> frames.Header:
        while not self._received:
            received, descriptors, _flags, _address = _receive(self._link, _READ_BYTES, _MOST_DESCRIPTORS)
            if not received:
                posix._exit(LOST)
            self._descriptors += descriptors
            self._received += self._reader.feed(received)
        return self._received.pop(0)[0]

    def _send(self, answer: frames.Header) -> None:
        frame = frames.encode(answer)
        while len(frame) > MAX_ANSWER_BYTES and answer.get("results"):
            results: list[dict[str, Any]] = answer["results"]
            results.remove(max(results, key=lambda result: sum(map(len, result["data"].values()))))
            frame = frames.encode(answer)
        self._link.sendall(frame)
