"""Whose turn: one compute thread that shares a core between training passes and decode ticks.

Calls of one run keep their order; `forward_backward` calls of different runs that wait at the same time become one
packed pass; every other call of a run waits for the calls before it and for nothing else. While streams live, each
training micro-step is followed by one decode tick. A call that has waited `JOIN_S` behind a long pass of others gets
a pass of its own, and the two take turns.
"""

import functools
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import structlog

from trainyard.core import disk, errors
from trainyard.engine import calls, cores, types
from trainyard.engine.state_writer import POLL_S, StateWriter
from trainyard.engine.streams import STREAM_STALL_S, Outlet, Streams
from trainyard.engine.switchboard import copy_error, engine_away

JOIN_S: Final = 0.25
"""A call behind a long pass gets its own after this wait; waiting less than that for a packed one is cheaper."""

MAX_PASSES: Final = 2
"""Passes that take turns; each holds activations of its own."""

_log = structlog.get_logger(__name__)
_Done = TypeVar("_Done")


@dataclass(eq=False)
class _Job:
    outlet: Outlet
    number: int
    call: calls.AnyCall
    since: float
    is_cancelled: bool = False


@dataclass(eq=False)
class _Training:
    running: cores.Pass
    jobs: list[_Job]
    runs: set[str]


@dataclass(eq=False)
class _Embedding:
    running: cores.Embedding
    job: _Job


class ComputeLoop:
    """Runs a core in a thread of its own; all public methods may be called from any thread.

    Args:
        core: Made before; belongs to the thread from `start` on.
        on_death: Called in the thread when it ends by a fault, after its callers were told.
        stream_stall_s: How long a stream without credit is kept.
        monotonic: Seconds of a clock that only goes forward.
    """

    def __init__(
        self,
        core: cores.Core[Any],
        *,
        on_death: Callable[[], None] = lambda: None,
        stream_stall_s: float = STREAM_STALL_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._core = core
        self._on_death = on_death
        self._monotonic = monotonic
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._streams = Streams(core, stream_stall_s, monotonic)
        self._writer = StateWriter(core, self._post, monotonic)
        self._waiting: dict[str, deque[_Job]] = {}
        self._passes: deque[_Training] = deque()
        self._embeddings: deque[_Embedding] = deque()
        self._open_runs: set[str] = set()
        self._is_over = False  # nothing new is accepted; written by the compute thread
        self._has_ended = False  # nothing takes commands any more; guarded by _ending
        self._ending = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="compute", daemon=True)

    # ------------------------------------------------------------ any thread
    def start(self) -> None:
        """Start the compute thread."""
        self._thread.start()

    def submit(self, outlet: Outlet, number: int, call: calls.AnyCall) -> None:
        """Hand a call over; its answer comes to the outlet under the number."""
        job = _Job(outlet, number, call, self._monotonic())
        self._post(lambda: self._accept(job))

    def cancel(self, outlet: Outlet, number: int) -> None:
        """End a stream before the next tick, or take back a call that has not begun; one under way goes to its end."""
        self._post(lambda: self._cancel(outlet, number))

    def credit(self, outlet: Outlet, number: int, tokens: int) -> None:
        """Let a stream run further ahead of its reader."""
        self._post(lambda: self._streams.add_credit(outlet, number, tokens))

    def drop(self, outlet: Outlet) -> None:
        """Forget a caller that is gone: its streams end, its waiting calls are taken back."""
        self._post(lambda: self._drop(outlet))

    def drain(self) -> None:
        """Fail streams and waiting calls, write every run durably, and return when the thread has ended."""
        if self._thread.is_alive():
            self._post(self._drain)
            self._thread.join()

    def abandon(self) -> None:
        """Stop without writing anything, as a killed process would; nobody is told."""
        if self._thread.is_alive():
            self._post(self._abandon)
            self._thread.join()

    def _abandon(self) -> None:
        self._is_over = True
        self._open_runs.clear()

    def _post(self, command: Callable[[], None]) -> None:
        with self._ending:
            if not self._has_ended:
                self._commands.put(command)
                return
        command()

    # -------------------------------------------------------- compute thread
    def _run(self) -> None:
        try:
            while not self._is_over:
                self.round(self._idle_s())
        finally:
            if not self._is_over:
                self._is_over = True
                self._refuse_all(engine_away("its compute thread failed"))
                self._on_death()
            self._writer.close()
            self._end()

    def round(self, wait_s: float | None) -> None:
        """Take commands, waiting at most so long for one (None = for ever), decode, train and embed one step each."""
        self._take_commands(wait_s)
        self._streams.tick()
        self._turn()
        if self._embeddings:
            self._embed()

    def _take_commands(self, wait_s: float | None) -> None:
        try:
            command = self._commands.get(block=wait_s != 0, timeout=wait_s)
            while True:
                command()
                command = self._commands.get_nowait()
        except queue.Empty:
            self._writer.poll()

    def _idle_s(self) -> float | None:
        """Seconds to wait for a command; 0 when there is work, None for ever."""
        if self._passes or self._waiting or self._embeddings or self._streams.can_decode:
            return 0.0
        waits = [self._streams.ends_in_s(), POLL_S if self._writer.has_waiting else None]
        return min((wait for wait in waits if wait is not None), default=None)

    def _accept(self, job: _Job) -> None:
        if self._is_over:
            job.outlet.error(job.number, engine_away("it is shutting down"))
            return
        run_id = calls.run_of(job.call)
        if run_id is None:
            self._do(job)
        else:
            self._waiting.setdefault(run_id, deque()).append(job)

    def _cancel(self, outlet: Outlet, number: int) -> None:
        if self._streams.cancel(outlet, number):
            return
        self._take_back(lambda job: job.outlet is outlet and job.number == number)

    def _drop(self, outlet: Outlet) -> None:
        self._streams.drop_outlet(outlet)
        self._take_back(lambda job: job.outlet is outlet)

    def _take_back(self, is_meant: Callable[[_Job], bool]) -> None:
        for run_id, jobs in list(self._waiting.items()):
            self._keep(run_id, deque(job for job in jobs if not is_meant(job)))
        for embedding in list(self._embeddings):
            if is_meant(embedding.job):
                self._embeddings.remove(embedding)
                embedding.running.close()
        for training in list(self._passes):
            for number, job in enumerate(training.jobs):
                if is_meant(job):
                    job.is_cancelled = True
                    training.running.withdraw(number)
            if all(job.is_cancelled for job in training.jobs):
                self._passes.remove(training)

    def _keep(self, run_id: str, jobs: deque[_Job]) -> None:
        if jobs:
            self._waiting[run_id] = jobs
        else:
            self._waiting.pop(run_id, None)

    # ------------------------------------------------------------------ turns
    def _turn(self) -> None:
        """Do one barrier call or start a pass, then one micro-step."""
        ready = [run_id for run_id in self._waiting if not any(run_id in training.runs for training in self._passes)]
        barriers = [run_id for run_id in ready if not isinstance(self._waiting[run_id][0].call, calls.ForwardBackward)]
        if barriers:
            self._do(self._pop(barriers[0]))
        elif ready and self._may_start(ready):
            self._start_pass(ready)
        if self._passes:
            self._step()

    def _pop(self, run_id: str) -> _Job:
        """Take the first waiting call of a run; the run goes to the end of the line."""
        jobs = self._waiting.pop(run_id)
        job = jobs.popleft()
        self._keep(run_id, jobs)
        return job

    def _may_start(self, ready: list[str]) -> bool:
        if not self._passes:
            return True
        waited_s = self._monotonic() - min(self._waiting[run_id][0].since for run_id in ready)
        return len(self._passes) < MAX_PASSES and waited_s >= JOIN_S

    def _start_pass(self, ready: list[str]) -> None:
        jobs = [self._pop(run_id) for run_id in ready]
        wanted = [job.call for job in jobs if isinstance(job.call, calls.ForwardBackward)]
        planned = self._guarded(jobs, lambda: self._core.begin_training(wanted))
        if planned is not None:
            self._passes.append(_Training(planned, jobs, set(ready)))

    def _step(self) -> None:
        training = self._passes.popleft()
        results = self._guarded(training.jobs, lambda: _advance(training.running))
        if results is None:
            return
        if not results:
            self._passes.append(training)
        for job, result in zip(training.jobs, results, strict=False):
            _deliver(job, result)

    def _embed(self) -> None:
        """Compute one step of the first embedding; the others wait in order of arrival."""
        embedding = self._embeddings[0]
        is_done = self._guarded([embedding.job], embedding.running.step)
        if is_done is False:
            return
        self._embeddings.popleft()
        if is_done:
            embedding.job.outlet.result(embedding.job.number, embedding.running.result())
        embedding.running.close()

    # ------------------------------------------------------------------ calls
    def _do(self, job: _Job) -> None:
        answer = self._guarded([job], lambda: self._answer(job))
        if answer is not None:
            job.outlet.result(job.number, answer)
        if isinstance(answer, types.OptimResult) and (run_id := calls.run_of(job.call)) is not None:
            self._writer.changed(run_id)  # after the answer, which need not wait for the copy

    def _guarded(self, jobs: list[_Job], work: Callable[[], _Done]) -> _Done | None:
        """Work for jobs, or for none at the end; when it fails, they get the error and the loop goes on."""
        names = ", ".join(type(job.call).__name__ for job in jobs) or "the last write of a run"
        try:
            return work()
        except errors.TrainyardError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - the edge of a job: a fault of one call must not end the others
            _log.exception("call_failed", call=names)
            failure = disk.full(error) or errors.TrainyardError(
                f"the engine failed in {names}: {type(error).__name__}: {error}"
            )
        for job in jobs:
            job.outlet.error(job.number, copy_error(failure))
        return None

    def _answer(self, job: _Job) -> types.Message | None:
        match job.call:
            case calls.Info():
                return self._core.info()
            case calls.Stats():
                return self._core.stats()
            case calls.GetRunState(run_id=run_id):
                return self._core.run_state(run_id)
            case calls.Generate(request=request):
                self._streams.admit(job.outlet, job.number, request, job.since)
                return None
            case calls.Embed(request=wanted):
                self._embeddings.append(_Embedding(self._core.begin_embedding(wanted), job))
                return None
            case _:
                return self._answer_run(job.call)

    def _answer_run(self, call: calls.AnyCall) -> types.Message:
        match call:
            case calls.OpenRun(spec=spec):
                opened = self._core.open_run(spec)
                self._open_runs.add(spec.run_id)
                return opened
            case calls.CloseRun(run_id=run_id):
                self._writer.forget(run_id)
                state = self._core.close_run(run_id)
                self._open_runs.discard(run_id)
                return state
            case calls.OptimStep(run_id=run_id, learning_rate=learning_rate):
                return self._core.optim_step(run_id, learning_rate)
            case calls.Save(run_id=run_id, mode=mode, directory=directory):
                saved = self._core.save(run_id, mode, directory)
                self._writer.flush(run_id)
                return saved
            case _:
                raise AssertionError(f"{type(call).__name__} is not a call of a run")

    # ------------------------------------------------------------------- end
    def _end(self) -> None:
        with self._ending:
            self._has_ended = True
        while not self._commands.empty():
            self._commands.get_nowait()()

    def _drain(self) -> None:
        self._is_over = True
        self._refuse_all(engine_away("it is shutting down"))
        for run_id in self._open_runs:
            self._guarded([], functools.partial(self._writer.flush, run_id))

    def _refuse_all(self, error: errors.Unavailable) -> None:
        self._streams.end_all(error)
        jobs = [job for jobs in self._waiting.values() for job in jobs]
        jobs += [job for training in self._passes for job in training.jobs]
        jobs += [embedding.job for embedding in self._embeddings]
        self._waiting.clear()
        self._passes.clear()
        self._embeddings.clear()
        for job in jobs:
            job.outlet.error(job.number, copy_error(error))


def _advance(running: cores.Pass) -> Sequence[cores.PassResult]:
    return running.results() if running.step() else ()


def _deliver(job: _Job, result: cores.PassResult) -> None:
    if isinstance(result, errors.TrainyardError):
        job.outlet.error(job.number, result)
    else:
        job.outlet.result(job.number, result)
