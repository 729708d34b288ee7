"""What the box works on, one at a time: its clocks, its limits, and its end with nothing left running."""

import os
import resource
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from trainyard.sandbox.inside import processes
from trainyard.sandbox.inside.runner_machine import Machine

FIRST_TICK_S = 0.005
TICK_S = 0.015
GRACE_S = 0.25
"""Between the SIGINT that asks an interpreter to end and the SIGKILL that ends it: its variables survive the first."""
_NEAR = 0.75
"""A process that died by a SIGKILL of others with so much of its limit in use was ended for its memory (a cgroup's
killer acts between two ticks)."""
_SETTLE_S = 0.002


class Job(ABC):
    """Something that runs under limits.

    Args:
        order: Has `id`, `timeout_s`, `cpu_s` and `memory_bytes`.

    Attributes:
        token: By which the interpreter answers; frames that code has prepared for later orders do not have it.
        reason: Why the box ended it, if it did.
    """

    def __init__(self, machine: Machine, order: Mapping[str, Any]) -> None:
        self.machine, self.order = machine, order
        self.id = order["id"]
        self.token = os.urandom(8).hex()
        self.began_at = time.monotonic()
        self.reason: str | None = None
        self.status: int | None = None
        self.exit_code: int | None = None
        self.peak_bytes = 0
        self.on_conclusion: Callable[[], None] = lambda: None
        self._is_ended = self._is_concluded = False
        self._is_unheard = False
        self._kill_at: float | None = None
        resting_s, machine.meter.resting_cpu_s = machine.meter.resting_cpu_s, None
        self._cpu_before_s = machine.meter.measure()[0] if resting_s is None else resting_s
        self._cpu_s = 0.0

    def begin(self) -> None:
        """Start it."""
        self.machine.on_answer = self.on_answer
        self.start()
        self._rearm(FIRST_TICK_S)

    @abstractmethod
    def start(self) -> None:
        """Set it going."""

    @abstractmethod
    def answer(self, cpu_s: float, wall_s: float) -> None:
        """Tell the server how it ended."""

    def on_answer(self, header: Mapping[str, Any]) -> None:  # noqa: B027 - a program answers nothing
        """Take what the interpreter says; only who waits for it overrides this."""

    def _rearm(self, after_s: float) -> None:
        if not self._is_concluded:
            self.machine.loop.alarm(time.monotonic() + after_s, self._on_tick)

    def _on_tick(self) -> None:
        if self._is_ended:
            self._settle()
            return
        self._check()
        if not self._is_ended:
            left_s = self.order["timeout_s"] - (time.monotonic() - self.began_at)
            self._rearm(min(TICK_S, max(left_s, 0.0)) if self.reason is None else TICK_S)

    def _measure(self, *, with_sockets: bool = True) -> tuple[int, list[processes.Sample]]:
        cpu_s, memory_bytes, samples = self.machine.meter.measure(with_sockets=with_sockets)
        self._cpu_s = max(self._cpu_s, cpu_s - self._cpu_before_s)
        self.peak_bytes = max(self.peak_bytes, memory_bytes)
        return memory_bytes, samples

    def _check(self) -> None:
        memory_bytes, samples = self._measure()
        bar_bytes = self.order["memory_bytes"]
        if memory_bytes > bar_bytes and self.machine.meter.proportional_bytes(samples) > bar_bytes:
            self.stop("memory", is_gentle=False)
        if self._is_unheard:
            self._interrupt_leader()
        now = time.monotonic()
        if self._kill_at is not None and now >= self._kill_at:
            self.kill()
        elif now - self.began_at >= self.order["timeout_s"]:
            self.stop("timeout")
        elif self._cpu_s >= self.order["cpu_s"]:
            self.stop("cpu")

    def stop(self, reason: str, *, is_gentle: bool = True) -> None:
        """End it for a reason: a SIGINT and after a moment SIGKILL, or SIGKILL at once."""
        if self.reason in (None, "interrupted"):
            self.reason = reason
            self._kill_at = time.monotonic() + GRACE_S
            if is_gentle:
                self._interrupt_leader()
        if not is_gentle:
            self.kill()

    def interrupt(self) -> None:
        """Send SIGINT to what runs, and leave it to itself."""
        if self.reason is None and not self._is_ended:
            self.reason = "interrupted"
            self._interrupt_leader()

    def _interrupt_leader(self) -> None:
        """Send SIGINT; one that comes before the code's own handler is set would be lost, and is sent again."""
        self._is_unheard = processes.is_deaf(self.leader, signal.SIGINT)
        if not self._is_unheard:
            processes.signal_group(self.leader, signal.SIGINT)

    @property
    def leader(self) -> int:
        """Whom signals are for."""
        return self.machine.interpreter.pid

    def kill(self) -> None:
        """End the process that it waits for."""
        processes.signal_each([self.leader], signal.SIGKILL)

    def on_child(self, pid: int, status: int, used: resource.struct_rusage) -> None:
        """Take note of a process that ended."""
        self.peak_bytes = max(self.peak_bytes, used.ru_maxrss * 1024)
        if pid == self.leader and not self._is_ended:
            self.on_leader_end(status)

    def on_leader_end(self, status: int) -> None:
        """Take note that the process it waits for has ended."""
        near = self.peak_bytes >= _NEAR * self.order["memory_bytes"]
        if self.reason is None and os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL and near:
            self.reason = "memory"
        self.end(status=status)

    def end(self, *, status: int | None = None, exit_code: int | None = None) -> None:
        """Take the end of the code, and end whatever it has left."""
        self._is_ended = True
        self.status, self.exit_code = status, exit_code
        if status is not None and os.WIFEXITED(status):
            self.exit_code = os.WEXITSTATUS(status)
        self._settle()

    @property
    def signal_name(self) -> str | None:
        """What ended its process, if a signal did."""
        if self.status is None or not os.WIFSIGNALED(self.status):
            return None
        number = os.WTERMSIG(self.status)
        return next((known.name for known in signal.Signals if known == number), f"SIG{number}")

    def _settle(self) -> None:
        """End all processes but the interpreter; comes again until there is none."""
        if self._is_concluded:
            return
        _memory_bytes, samples = self._measure(with_sockets=False)
        spared = self.machine.interpreter.pid
        if any(sample.is_alive and sample.pid != spared for sample in samples):
            self.machine.tree.freeze()
            processes.signal_each(self.machine.tree.others(spared), signal.SIGKILL)
            self._rearm(_SETTLE_S)
            return
        self._is_concluded = True
        self.machine.rest()
        self.machine.loop.alarm(None, self._settle)
        self.machine.on_answer = self.machine.distrust_unasked
        wall_s = time.monotonic() - self.began_at
        self.peak_bytes = max(self.peak_bytes, self.spike_bytes())
        before = self.machine.interpreter.pid
        self.machine.restore_interpreter()
        is_new = self.machine.interpreter.pid != before
        self.machine.meter.resting_cpu_s = None if is_new else self._cpu_before_s + self._cpu_s
        self.answer(self._cpu_s, wall_s)
        self.on_conclusion()

    def spike_bytes(self) -> int:
        """Memory that was used between two looks, as far as the kernel has kept it; only who knows overrides this."""
        return 0
