"""The methods of `Engine` on top of a line: shared by the engine over a socket and the one in this process."""

import abc
import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Literal, TypeVar

from trainyard.core import errors
from trainyard.engine import calls, protocol, switchboard, types

_Answer = TypeVar("_Answer", bound=types.Message)

_CREDIT_STEP = protocol.CREDIT_TOKENS // 2
"""Tokens read before credit is returned: half the allowance, so that a reader that keeps up never parks its stream."""


class LineEngine(abc.ABC):
    """Turns each method into one call on a line that the subclass opens."""

    @abc.abstractmethod
    async def _line(self) -> switchboard.Line:
        """Give the open line, opening it when there is none; raises errors.Unavailable."""

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Let go of the line; calls in flight fail with errors.Unavailable."""

    async def _request(self, call: calls.AnyCall, answer: type[_Answer]) -> _Answer:
        line = await self._line()
        with line.board.call() as (number, future):
            try:
                await line.call(number, call)
                message = await future
            except asyncio.CancelledError:
                line.cancel(number)
                raise
        if not isinstance(message, answer):
            raise protocol.ProtocolError(f"{type(call).__name__} was answered with {type(message).__name__}")
        return message

    async def info(self) -> types.ModelInfo:
        """Describe the base model."""
        return await self._request(calls.Info(), types.ModelInfo)

    async def stats(self) -> types.EngineStats:
        """Count what the engine holds and did."""
        return await self._request(calls.Stats(), types.EngineStats)

    async def open_run(self, spec: types.RunSpec) -> types.RunState:
        """Open a run, restored from its state directory when that holds a state."""
        return await self._request(calls.OpenRun(spec=spec), types.RunState)

    async def run_state(self, run_id: str) -> types.RunState:
        """Tell where a run stands, without waiting for its queued calls."""
        return await self._request(calls.GetRunState(run_id=run_id), types.RunState)

    async def close_run(self, run_id: str) -> types.RunState:
        """Write the run's state durably and forget it in memory."""
        return await self._request(calls.CloseRun(run_id=run_id), types.RunState)

    async def forward_backward(
        self, run_id: str, data: list[types.Datum], *, accumulate: bool, loss_fn: str = "causal_lm"
    ) -> types.ForwardBackwardResult:
        """Add the gradients of a batch to the run (accumulate) or put them in place of what was held."""
        call = calls.ForwardBackward(run_id=run_id, data=data, accumulate=accumulate, loss_fn=loss_fn)
        return await self._request(call, types.ForwardBackwardResult)

    async def optim_step(self, run_id: str, *, learning_rate: float | None = None) -> types.OptimResult:
        """Apply and clear the held gradients."""
        return await self._request(calls.OptimStep(run_id=run_id, learning_rate=learning_rate), types.OptimResult)

    async def save(self, run_id: str, mode: Literal["adapter", "merged"], directory: str) -> types.SaveResult:
        """Write the run's weights into a new directory and verify by reading back."""
        return await self._request(calls.Save(run_id=run_id, mode=mode, directory=directory), types.SaveResult)

    async def embed(self, request: types.EmbedRequest) -> types.EmbedResult:
        """Turn texts into vectors."""
        return await self._request(calls.Embed(request=request), types.EmbedResult)

    def generate(self, request: types.GenerateRequest) -> AsyncIterator[types.TokenEvent]:
        """Stream tokens; closing the iterator cancels at the next tick."""
        return self._tokens(request)

    async def _tokens(self, request: types.GenerateRequest) -> AsyncGenerator[types.TokenEvent, None]:
        line = await self._line()
        with line.board.stream() as (number, arrivals):
            is_over, unreturned = False, 0
            try:
                await line.call(number, calls.Generate(request=request))
                while not is_over:
                    arrival = await arrivals.get()
                    if isinstance(arrival, errors.TrainyardError):
                        is_over = True
                        raise arrival
                    for event in arrival:
                        is_over = event.finish is not None
                        unreturned += 1
                        if unreturned >= _CREDIT_STEP and not is_over:
                            line.credit(number, unreturned)
                            unreturned = 0
                        yield event
            finally:
                if not is_over:
                    line.cancel(number)
