"""What a compute loop drives: the synchronous side of an engine, real or fake, used from one thread."""

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar

from trainyard.core import errors
from trainyard.engine import calls, types

SnapshotT = TypeVar("SnapshotT")
"""A copy of a run's state; only the core that made it looks inside."""

PassResult = types.ForwardBackwardResult | errors.TrainyardError


class Pass(Protocol):
    """Waiting `forward_backward` calls of several runs as one computation."""

    def step(self) -> bool:
        """Compute one micro-step (at most about 50 ms); true when all is done."""
        ...

    def results(self) -> Sequence[PassResult]:
        """Give one result or error per call, in their order, once `step` was true."""
        ...

    def withdraw(self, number: int) -> None:
        """Take back the call of this place: its gradients are not added, its result is an error."""
        ...


class Embedding(Protocol):
    """The computation of one `embed` call."""

    def step(self) -> bool:
        """Compute a bounded part (at most about 50 ms); true when all is done."""
        ...

    def result(self) -> types.EmbedResult:
        """Give the vectors once `step` was true."""
        ...

    def close(self) -> None:
        """Let go of the weights, done or not."""
        ...


def withdrawn() -> errors.TrainyardError:
    """Make the result of a call that was taken back; its caller is not there to read it."""
    return errors.Unavailable("the caller took the call back", code="withdrawn")


class Core(Protocol[SnapshotT]):
    """One base model; no method is thread safe but `write_state`. Errors are those of `Engine`."""

    def info(self) -> types.ModelInfo:
        """Describe the base model."""
        ...

    def stats(self) -> types.EngineStats:
        """Count what is held and was done."""
        ...

    def open_run(self, spec: types.RunSpec) -> types.RunState:
        """Open or restore a run."""
        ...

    def run_state(self, run_id: str) -> types.RunState:
        """Tell where a run stands."""
        ...

    def close_run(self, run_id: str) -> types.RunState:
        """Write durably and forget."""
        ...

    def begin_training(self, calls: list[calls.ForwardBackward], /) -> Pass:
        """Plan a pass; dropped unfinished it changes nothing, and an impossible call fails alone."""
        ...

    def optim_step(self, run_id: str, learning_rate: float | None = None) -> types.OptimResult:
        """Apply and clear the gradients."""
        ...

    def save(self, run_id: str, mode: Literal["adapter", "merged"], directory: str) -> types.SaveResult:
        """Write the weights into a new directory."""
        ...

    def snapshot_if_due(self, run_id: str, *, force: bool = False) -> SnapshotT | None:
        """Copy the state when it should be written now; force = whenever it is newer than what is durable."""
        ...

    def write_state(self, snapshot: SnapshotT) -> int:
        """Write a snapshot and return its step; any thread, one write per run at a time."""
        ...

    def mark_durable(self, run_id: str, step: int) -> None:
        """Note that a write is finished; a run that was closed meanwhile is ignored."""
        ...

    def begin_embedding(self, request: types.EmbedRequest) -> Embedding:
        """Plan the computation of vectors with the weights of this moment."""
        ...

    def admit(self, request: types.GenerateRequest) -> None:
        """Take a stream in with the weights of this moment."""
        ...

    def cancel(self, stream_id: str) -> bool:
        """End a stream without a further event; false when it is not there."""
        ...

    def tick(self, parked: frozenset[str] = frozenset()) -> list[tuple[str, types.TokenEvent]]:
        """Decode one token for every stream that is not parked."""
        ...

    def failures(self) -> list[tuple[str, errors.TrainyardError]]:
        """Take the streams that ended with an error since the last call; they had no last event."""
        ...
