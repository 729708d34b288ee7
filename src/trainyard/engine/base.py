"""The Engine Protocol: in-process, socket and fake engines are interchangeable behind it."""

from collections.abc import AsyncIterator, Mapping
from typing import Literal, Protocol

from trainyard.engine import types


class Engine(Protocol):
    """One base model that trains and samples.

    Errors of every method: `errors.Unavailable` (code `engine_restarting`, retryable) when the process is away or dies
    during the call; `errors.InvalidRequest` for what the model cannot do; `errors.NotFound` (code `run_not_open`) for a
    run that `open_run` did not open since the engine started.
    """

    async def info(self) -> types.ModelInfo:
        """Describe the base model."""
        ...

    async def ping(self) -> None:
        """Return once the engine answers; one in a process of its own does so while it computes."""
        ...

    async def stats(self) -> types.EngineStats:
        """Count what the engine holds and did."""
        ...

    async def open_run(self, spec: types.RunSpec) -> types.RunState:
        """Open a run, restored from its state directory when that holds a state.

        A second call for an open run changes nothing and answers its state.
        """
        ...

    async def run_state(self, run_id: str) -> types.RunState:
        """Tell where a run stands."""
        ...

    async def close_run(self, run_id: str) -> types.RunState:
        """Write the run's state durably and forget it in memory; its gradients are dropped."""
        ...

    async def forward_backward(
        self, run_id: str, data: list[types.Datum], *, accumulate: bool, loss_fn: str = "causal_lm"
    ) -> types.ForwardBackwardResult:
        """Add the gradients of a batch to the run (accumulate) or put them in place of what was held.

        On any error the gradients that were held before the call are unchanged.
        """
        ...

    async def optim_step(self, run_id: str, *, learning_rate: float | None = None) -> types.OptimResult:
        """Apply and clear the held gradients; learning_rate replaces the schedule's for this one step.

        Raises:
            errors.Conflict: code `no_gradients` when none are held; code `gradients_lost` once after a crash took them.
        """
        ...

    async def save(self, run_id: str, mode: Literal["adapter", "merged"], directory: str) -> types.SaveResult:
        """Write the run's weights into a new directory, complete or absent, and verify by reading back."""
        ...

    def generate(self, request: types.GenerateRequest) -> AsyncIterator[types.TokenEvent]:
        """Stream tokens; closing the iterator cancels at the next tick. Several streams share each decode step.

        Raises:
            errors.Unavailable: Code `engine_overloaded`: as many streams wait as may; `retry_after_s` is set.
            errors.DeadlineExceeded: Code `generation_timeout`: `timeout_s` is over; what was drawn has been given.
            errors.InvalidRequest: Code `invalid_grammar`: the grammar cannot be compiled; the message says why.
        """
        ...

    async def embed(self, request: types.EmbedRequest) -> types.EmbedResult:
        """Turn texts into vectors.

        Raises:
            errors.InvalidRequest: A text is empty, too long or holds unknown ids, or there is no such layer.
        """
        ...

    async def aclose(self) -> None:
        """Let go of the connection (socket) or the thread (in process)."""
        ...


class Engines(Protocol):
    """The engines of this server, by catalog name of their base model."""

    async def get(self, model: str) -> Engine:
        """Find the engine of a local model and have it started when it is lazy.

        Raises:
            errors.Unavailable: It does not answer; code `engine_restarting` or `engine_starting`, retryable.
        """
        ...

    def connected(self) -> Mapping[str, Engine]:
        """List the engines that were asked for already; none is started for this."""
        ...
