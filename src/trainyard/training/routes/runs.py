"""`/models` and `/runs`: create, list, status, metrics, complete."""

from fastapi import APIRouter

from trainyard.training import types
from trainyard.training.routes.access import NEEDS_ROOM, NEEDS_STATE, RunId, Trainer
from trainyard.training.service import TrainingService


def add(routes: APIRouter, service: TrainingService) -> None:
    """Add the routes of a run's life."""

    @routes.get("/models", tags=["runs"], summary="Models that can be trained")
    async def list_models(_who: Trainer) -> types.ModelsResponse:
        """List the names that `base_model` can have."""
        return service.runs.models()

    @routes.post("/runs", tags=["runs"], summary="Create a run", responses=NEEDS_ROOM)
    async def create_run(who: Trainer, config: types.RunConfig) -> types.RunResponse:
        """Create a LoRA run; the answer shows the configuration as it takes effect."""
        return await service.runs.create(who, config)

    @routes.get("/runs", tags=["runs"], summary="Your runs")
    async def list_runs(who: Trainer) -> types.RunList:
        """List your runs, newest first."""
        return await service.runs.list_own(who)

    @routes.get("/runs/{run_id}/status", tags=["runs"], summary="Where a run stands")
    async def run_status(who: Trainer, run_id: RunId) -> types.RunStatus:
        """Tell current and durable step, and what a crash took."""
        return await service.runs.status(who, run_id)

    @routes.get("/runs/{run_id}/metrics", tags=["runs"], summary="What each step measured")
    async def run_metrics(who: Trainer, run_id: RunId) -> types.MetricsResponse:
        """List one entry per optimiser step, oldest first."""
        return await service.runs.metrics(who, run_id)

    @routes.post("/runs/{run_id}/complete", tags=["runs"], summary="End a run", responses=NEEDS_STATE)
    async def complete_run(who: Trainer, run_id: RunId) -> types.CompleteResponse:
        """Write the run durably and end its training; it stays callable."""
        return await service.runs.complete(who, run_id)
