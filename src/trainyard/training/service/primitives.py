"""The two primitives that train: gradients of a batch, and a step with them."""

from dataclasses import replace

from trainyard.core import ids
from trainyard.core.principal import Principal
from trainyard.engine import types as engine_types
from trainyard.training.service import batches, configuring
from trainyard.training.service.parts import Parts
from trainyard.training.service.sessions import Pending, Sessions
from trainyard.training.types import (
    ForwardBackwardMetrics,
    ForwardBackwardRequest,
    ForwardBackwardResponse,
    GradStats,
    OptimMetrics,
    OptimStepRequest,
    OptimStepResponse,
)


class Primitives:
    """Trains runs, one act at a time per run."""

    def __init__(self, parts: Parts, sessions: Sessions) -> None:
        self._parts = parts
        self._sessions = sessions

    async def forward_backward(
        self, principal: Principal, run_id: str, request: ForwardBackwardRequest
    ) -> ForwardBackwardResponse:
        """Compute loss and gradients of a batch; the gradients wait in the engine for `optim_step`.

        Raises:
            errors.InvalidRequest: An example cannot be trained on.
            errors.Conflict: The run does not train any more, code `run_not_active`.
            errors.Unavailable: The engine is away; what it held is gone.
        """
        record = await self._sessions.find(principal, run_id)
        tokenizer = await self._parts.tokenizers.load(record.base_model)
        data = await batches.encode(request.batch_data, tokenizer, configuring.config_of(record).max_seq_length)
        async with self._sessions.training(run_id):
            record = await self._sessions.trainable(run_id)
            if request.accumulate:
                await self._sessions.watch_pending(record)
            result = await self._sessions.call(
                record, lambda engine: engine.forward_backward(run_id, data, accumulate=request.accumulate)
            )
            held = self._sessions.pending[run_id] if request.accumulate else Pending()
            self._sessions.pending[run_id] = _added(held, result)
        request_id = request.request_id or ids.new_id("req", self._parts.clock)
        return _response(result, request_id)

    async def optim_step(self, principal: Principal, run_id: str, request: OptimStepRequest) -> OptimStepResponse:
        """Apply the gradients that are held and record the step.

        Raises:
            errors.Conflict: None are held (`no_gradients`), a crash took them (`gradients_lost`, once), or the run does
                not train any more (`run_not_active`).
            errors.Unavailable: The engine is away.
        """
        await self._sessions.find(principal, run_id)
        async with self._sessions.training(run_id):
            record = await self._sessions.trainable(run_id)
            result = await self._sessions.call(
                record, lambda engine: engine.optim_step(run_id, learning_rate=request.learning_rate)
            )
            metrics = _measured(self._sessions.pending.get(run_id, Pending()), result)
            self._sessions.pending[run_id] = Pending()
            entry = metrics.model_dump(include={"loss", "grad_norm", "learning_rate", "tokens", "tokens_per_s"})
            await self._parts.stored(
                self._parts.registry.update_run,
                run_id,
                current_step=result.step,
                durable_step=metrics.durable_step,
                metrics=entry,
            )
        return OptimStepResponse(step=result.step, learning_rate=result.learning_rate, metrics=metrics)


def _added(held: Pending, result: engine_types.ForwardBackwardResult) -> Pending:
    return replace(
        held,
        loss_sum=held.loss_sum + result.loss_sum,
        weight_sum=held.weight_sum + result.weight_sum,
        tokens=held.tokens + result.tokens,
        compute_s=held.compute_s + result.compute_s,
    )


def _measured(pending: Pending, result: engine_types.OptimResult) -> OptimMetrics:
    is_known = pending.is_known and pending.weight_sum > 0
    return OptimMetrics(
        loss=pending.loss_sum / pending.weight_sum if is_known else None,
        grad_norm=result.grad_norm,
        weight_norm=result.weight_norm,
        learning_rate=result.learning_rate,
        tokens=pending.tokens if is_known else None,
        tokens_per_s=_rate(pending.tokens, pending.compute_s) if is_known else None,
        durable_step=max(0, result.durable_step),
    )


def _response(result: engine_types.ForwardBackwardResult, request_id: str) -> ForwardBackwardResponse:
    return ForwardBackwardResponse(
        loss=result.loss,
        step=result.step,
        grad_norm=result.grad_norm,
        grad_stats=GradStats(norm=result.grad_norm, max=result.grad_max),
        request_id=request_id,
        status="completed",
        metrics=ForwardBackwardMetrics(
            tokens=result.tokens,
            weighted_tokens=result.weight_sum,
            loss_sum=result.loss_sum,
            packed_runs=result.packed_runs,
            compute_s=result.compute_s,
            tokens_per_s=_rate(result.tokens, result.compute_s),
        ),
    )


def _rate(tokens: int, seconds: float) -> float | None:
    return tokens / seconds if seconds > 0 else None
