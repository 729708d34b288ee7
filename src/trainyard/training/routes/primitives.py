"""`forward_backward` and `optim_step`."""

from fastapi import APIRouter

from trainyard.training import types
from trainyard.training.routes.access import NEEDS_STATE, RunId, Trainer
from trainyard.training.service import TrainingService


def add(routes: APIRouter, service: TrainingService) -> None:
    """Add the two primitives that train."""

    @routes.post(
        "/runs/{run_id}/forward_backward",
        tags=["primitives"],
        summary="Loss and gradients of a batch",
        responses=NEEDS_STATE,
    )
    async def forward_backward(
        who: Trainer, run_id: RunId, request: types.ForwardBackwardRequest
    ) -> types.ForwardBackwardResponse:
        """Compute gradients, which wait for `optim_step`; `accumulate` adds them to those that wait already."""
        return await service.primitives.forward_backward(who, run_id, request)

    @routes.post("/runs/{run_id}/optim_step", tags=["primitives"], summary="Apply the gradients", responses=NEEDS_STATE)
    async def optim_step(
        who: Trainer, run_id: RunId, request: types.OptimStepRequest | None = None
    ) -> types.OptimStepResponse:
        """Apply and clear the gradients that wait; without any it is 409."""
        return await service.primitives.optim_step(who, run_id, request or types.OptimStepRequest())
