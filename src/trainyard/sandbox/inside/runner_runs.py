"""Runs: the jobs that execute code, with their outputs and their report."""

import json
import os
import subprocess
from collections.abc import Mapping
from typing import Any

from trainyard.sandbox.inside import processes
from trainyard.sandbox.inside.interpreter import LOST
from trainyard.sandbox.inside.outputs import Output
from trainyard.sandbox.inside.programs import CannotStart, Program
from trainyard.sandbox.inside.runner_jobs import Job
from trainyard.sandbox.inside.runner_machine import Machine
from trainyard.sandbox.inside.runner_pipes import STREAMS
from trainyard.sandbox.inside.spool import STATE
from trainyard.sandbox.inside.workspace import refusal

_NO_PROCESS = 1 << 30
_DAMAGED = b"The interpreter could not go on with what code has made of it. It was replaced; its variables are gone.\n"
_FAILURES = ("bad_state", "invalid_path", "not_found", "workspace_full", "io_error")
"""Codes with which an interpreter says that it has not done what it was asked."""
_MOST = 1 << 31
"""Of what is counted; code that plays its interpreter can name any number."""


class Run(Job):
    """Code that runs, whose outputs are read as they come."""

    phase = "run"

    def __init__(self, machine: Machine, order: Mapping[str, Any], stdin: bytes) -> None:
        super().__init__(machine, order)
        self.outputs = {name: Output(machine.spool, order["output_bytes"], order["log_bytes"]) for name in STREAMS}
        machine.keep_outputs(self.outputs)
        self._is_held = False
        self._pipes = machine.take_pipes()
        self._pipes.on_ready = self._read
        try:
            self._stdin = machine.spool.holding(stdin)
        except OSError:
            self._pipes.close()
            raise
        self.descriptors = [self._stdin, *self._pipes.writing]

    def _read(self, name: str) -> bool:
        """Take one piece; whether there was one."""
        piece = self._pipes.read(name)
        if piece and not self.outputs[name].is_over:
            self._take(name, self.outputs[name], piece)
        return bool(piece)

    def _take(self, name: str, output: Output, piece: bytes) -> None:
        output.feed(piece)
        if self.order["stream"]:
            self.machine.wire.send({"id": self.id, "event": "out", "stream": name}, piece)
            self._hold_back()
        if output.is_over:
            self.stop("output")

    def _hold_back(self) -> None:
        """Read no more of the code's outputs while the server has not read what it was sent."""
        if self.machine.wire.is_full and not self._is_held and not self._is_ended:
            self._is_held = True
            self.machine.wire.on_room = self._go_on
            self._pipes.hold_back()

    def _go_on(self) -> None:
        if self._is_held:
            self._is_held = False
            self._pipes.go_on()

    def answer(self, cpu_s: float, wall_s: float) -> None:
        """Read what is left in the pipes, look at the files, report, and make ready for the next run."""
        self._is_held = True  # the rest of its output is on its way in any case
        for name in STREAMS:
            while self._read(name):
                pass
        self._is_held = False  # when the server has read all, there is no pipe to go on with
        kept = {name: output.kept() for name, output in self.outputs.items()}
        header = {
            "id": self.id,
            "event": "done",
            "exit_code": self.exit_code,
            "signal": self.signal_name,
            "reason": None if self.reason == "interrupted" and self.exit_code == 0 else self.reason,
            "phase": self.phase,
            "wall_s": wall_s,
            "cpu_s": cpu_s,
            "peak_memory_bytes": self.peak_bytes,
            **{name: output.about() for name, output in self.outputs.items()},
            **self.machine.ledger.report(),
            **self.standing(),
        }
        self.machine.wire.send(header, kept["stdout"] + kept["stderr"])
        os.close(self._stdin)
        self._pipes.close()
        self.machine.prepare()

    def standing(self) -> dict[str, Any]:
        """`results`, and how the interpreter stands."""
        machine = self.machine
        was_lost, machine.was_lost = machine.was_lost, False
        return {
            "results": [],
            "variables": machine.interpreter.variables,
            "is_fresh": machine.interpreter.is_fresh,
            "was_reset": was_lost,
        }


class Cell(Run):
    """Python in the live interpreter."""

    def start(self) -> None:
        """Hand the code over."""
        self._results: list[dict[str, Any]] = []
        order = {"id": self.token, "op": "run"} | {key: self.order[key] for key in ("code", "args", "env", "results")}
        self.machine.interpreter.send(order, self.descriptors)

    def on_answer(self, header: Mapping[str, Any]) -> None:
        """Take how it ended; an answer to anything else comes from code that plays interpreter."""
        is_told = isinstance(header.get("exit_code"), int) and _is_count(header.get("variables"))
        if self._is_ended or header.get("id") != self.token or not is_told:
            self.machine.interpreter.distrust()
            return
        self._results = _checked(header.get("results"))
        self.machine.interpreter.variables = header["variables"]
        self.machine.interpreter.is_fresh = header.get("is_fresh") is True
        children_cpu_s = header.get("children_cpu_s")
        if isinstance(children_cpu_s, float):
            self.machine.meter.tell_of_children(self.leader, children_cpu_s)
        self.end(exit_code=header["exit_code"] & 0xFF)

    def spike_bytes(self) -> int:
        """What the interpreter had at most, if this run has set its record."""
        interpreter = self.machine.interpreter
        before_bytes, interpreter.record_bytes = interpreter.record_bytes, processes.peak_rss_bytes(interpreter.pid)
        return interpreter.record_bytes if interpreter.record_bytes > before_bytes else 0

    def on_leader_end(self, status: int) -> None:
        """Explain the end of an interpreter that could not go on with what earlier code has made of it."""
        if os.WIFEXITED(status) and os.WEXITSTATUS(status) == LOST:
            self.outputs["stderr"].feed(_DAMAGED)
        super().on_leader_end(status)

    def standing(self) -> dict[str, Any]:
        """Results of the code."""
        return super().standing() | {"results": self._results}


class ProgramRun(Run):
    """Steps of another language, one process after the other."""

    def __init__(self, machine: Machine, order: Mapping[str, Any], stdin: bytes) -> None:
        self._program = Program(
            order["program"], order["code"], order["args"], machine.setup.scratch, machine.spool.directory
        )
        self._process: subprocess.Popen[bytes] | None = None
        try:
            super().__init__(machine, order, stdin)
        except OSError:
            self._program.remove()
            raise

    @property
    def leader(self) -> int:
        """The program of the step; a number that no process has before the first has started."""
        return self._process.pid if self._process else _NO_PROCESS

    def start(self) -> None:
        """Start the first step."""
        self._start_next()

    def _start_next(self) -> None:
        self.phase = self._program.next_phase
        setup = self.machine.setup
        try:
            env = {**setup.environ, **self.order["env"]}
            self._process = self._program.start_next(setup.workspace, env, self.descriptors, self.machine.bound_child)
        except CannotStart as error:
            self.outputs["stderr"].feed(f"{error}\n".encode())
            self.end(exit_code=error.exit_code)

    def on_leader_end(self, status: int) -> None:
        """Go on with the next step when this one has worked."""
        if self._process is not None:
            self._process.returncode = status  # it was waited for; let Popen not ask again
        if status == 0 and self._program.has_more and self.reason is None:
            self._start_next()
        else:
            super().on_leader_end(status)

    def stop(self, reason: str, *, is_gentle: bool = True) -> None:
        """End it at once: a program has no variables that would be worth a moment's grace."""
        super().stop(reason, is_gentle=False)

    def answer(self, cpu_s: float, wall_s: float) -> None:
        """Report, and leave nothing of the steps."""
        self._program.remove()
        super().answer(cpu_s, wall_s)


class Question(Job):
    """Something that only the interpreter can answer, under the same limits as a run."""

    def __init__(self, machine: Machine, order: Mapping[str, Any]) -> None:
        super().__init__(machine, order)
        self._told: dict[str, Any] | None = None
        self._descriptors = list[int]()
        if order["op"] == "dump":
            self._descriptors.append(machine.spool.begin_state())
        elif order["op"] == "load":
            self._descriptors.append(_opened_state(machine))

    def start(self) -> None:
        """Ask."""
        asked = {"id": self.token} | {key: self.order[key] for key in ("op", "max_bytes") if key in self.order}
        self.machine.interpreter.send(asked, self._descriptors)
        for descriptor in self._descriptors:
            os.close(descriptor)

    def on_answer(self, header: Mapping[str, Any]) -> None:
        """Take the answer."""
        is_failure = header.get("event") == "failed" and header.get("code") in _FAILURES
        is_meant = header.get("id") == self.token and (is_failure or header.get("event") == "done")
        if self._is_ended or not is_meant:
            self.machine.interpreter.distrust()
        else:
            self._told = dict(header)
            self.end(exit_code=0)

    def answer(self, cpu_s: float, wall_s: float) -> None:
        """Hand the answer on, or say that there is none."""
        if self.order["op"] == "dump":
            self.machine.spool.end_state(is_whole=self._told is not None and self._told["event"] == "done")
        if self._told is None:
            why = self.reason or self.signal_name or f"exit code {self.exit_code}"
            message = f"the interpreter ended before it could answer ({why}); its variables are gone"
            self.machine.wire.send({"id": self.id, "event": "failed", "code": "interpreter_gone", "message": message})
            return
        told = self._told | {"id": self.id}
        if _is_count(told.get("variables")):
            self.machine.interpreter.variables = told.pop("variables")
            self.machine.interpreter.is_fresh = told.pop("is_fresh", False) is True
        self.machine.wire.send(_plain(told))


def _opened_state(machine: Machine) -> int:
    try:
        return machine.spool.open_state()
    except OSError as error:
        raise refusal(error, STATE) from error


def _is_count(number: object) -> bool:
    return type(number) is int and 0 <= number < _MOST


def _checked(results: object) -> list[dict[str, Any]]:
    """Results as they must be, or none: the code can write what it likes in the name of its interpreter."""
    if not isinstance(results, list) or not all(map(_is_result, results)):
        return []
    plain: list[dict[str, Any]] = _plain(results) if results else []
    return plain


def _is_result(result: object) -> bool:
    if not isinstance(result, dict) or result.get("kind") not in ("execute_result", "display_data"):
        return False
    data, file = result.get("data"), result.get("file")
    is_data = isinstance(data, dict) and all(isinstance(value, str) for value in data.values())
    return is_data and (file is None or isinstance(file, str)) and result.keys() <= {"kind", "data", "file"}


def _plain(value: Any) -> Any:
    """The same without halves of surrogate pairs, which are no text in any encoding."""
    text = json.dumps(value, ensure_ascii=False)
    return value if text.isascii() else json.loads(text.encode("utf-8", "replace"))
