"""Answers about runs: the list, one run's status, its metrics."""

import enum
from datetime import datetime

from pydantic import Field

from trainyard.training.types.base import Result
from trainyard.training.types.config import EffectiveConfig


class RunState(enum.StrEnum):
    """Where a run is in its life."""

    INITIALIZED = "initialized"  # recorded, not yet opened in an engine
    ACTIVE = "active"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_live(self) -> bool:
        """Whether the run counts against its user's limit of live runs."""
        return self in LIVE_STATES


LIVE_STATES = (RunState.INITIALIZED, RunState.ACTIVE, RunState.PAUSED)


class GpuAssignment(Result):
    """What became of `gpu_config`."""

    requested: str | None = Field(description="As sent.")
    applied: bool = Field(description="Whether this GPU computes the run.")
    reason: str = Field(description="Why, or why not.")


class RunResponse(Result):
    """A run as `POST /runs` and `GET /runs` show it."""

    run_id: str = Field(description="`run_` + 16 hex digits; a model name for /v1 from the first optimiser step on.")
    user_id: str = Field(description="User who owns the run.")
    base_model: str = Field(description="Catalog name of the base model.")
    status: RunState = Field(description="initialized, active, paused, completed, failed or cancelled.")
    created_at: datetime = Field(description="When the run was created, UTC.")
    config: EffectiveConfig = Field(description="Configuration with the effective values.")
    gpu: GpuAssignment = Field(description="What became of gpu_config.")


class RunList(Result):
    """What `GET /runs` answers."""

    runs: list[RunResponse] = Field(description="The caller's runs, newest first.")


class RolledBack(Result):
    """A crash took steps away."""

    from_step: int = Field(alias="from", description="Steps applied before the crash.")
    to_step: int = Field(alias="to", description="Steps that survived it.")


class RunStatus(RunResponse):
    """What `GET /runs/{id}/status` answers."""

    updated_at: datetime = Field(description="Last change of the run, UTC.")
    completed_at: datetime | None = Field(description="When it was completed; null = it is not.")
    current_step: int = Field(description="Optimiser steps applied.")
    durable_step: int = Field(description="Steps that survive a crash now.")
    pending_tokens: int | None = Field(
        description="Weighted tokens whose gradients wait for optim_step; null = engine away or closed."
    )
    gradients_lost: bool | None = Field(
        description="The engine died with gradients; the next optim_step is 409. Null = engine away or closed."
    )
    rolled_back: RolledBack | None = Field(description="The last crash that took steps away; null = none.")
    trainable_parameters: int | None = Field(description="Numbers in the adapter; null = engine away or closed.")
    learning_rate: float | None = Field(description="Of the next step, schedule applied; null = engine away or closed.")
    error: str | None = Field(description="Why the run failed; null = it did not.")
    engine: str = Field(description="`ready`, `closed` for a run that no longer trains, or the code of why it is away.")
    cost_so_far: float = Field(default=0.0, description="Always 0: this server charges nothing.")
    charged_so_far: float = Field(default=0.0, description="Always 0: this server charges nothing.")
    cost_per_hour: float = Field(default=0.0, description="Always 0: this server charges nothing.")


class MetricsResponse(Result):
    """What `GET /runs/{id}/metrics` answers."""

    run_id: str = Field(description="The run, `run_` + 16 hex digits.")
    step: int = Field(description="Optimiser steps applied.")
    metrics: list[dict[str, object]] = Field(
        description="One entry per optimiser step, oldest first: timestamp (Unix seconds), step, loss, grad_norm, "
        "learning_rate, tokens, tokens_per_s. A step number occurs twice when a crash took it and it was done again."
    )


class CompleteResponse(Result):
    """What `complete` answers."""

    success: bool = Field(description="Always true; errors have their own answer.")
    run_id: str = Field(description="The run, `run_` + 16 hex digits.")
    status: RunState = Field(description="Always completed.")
    total_cost: float = Field(default=0.0, description="Always 0: this server charges nothing.")
    charged_during_run: float = Field(default=0.0, description="Always 0: this server charges nothing.")
    final_charge: float = Field(default=0.0, description="Always 0: this server charges nothing.")
    message: str | None = Field(
        default=None, description="Set when the run was completed before, or gradients that waited were dropped."
    )


class ModelsResponse(Result):
    """What `GET /models` answers."""

    models: list[str] = Field(description="Names that `base_model` can have.")
