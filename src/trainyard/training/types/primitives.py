"""Requests and answers of `forward_backward` and `optim_step`."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import pydantic
from pydantic import Field
from pydantic_core import PydanticCustomError

from trainyard.training.types.base import Request, Result
from trainyard.training.types.examples import TrainingExample

_REASON = "no loss of this server reads it; loss_fn can be causal_lm or cross_entropy, and neither takes options"


def _check_empty(value: dict[str, object]) -> dict[str, object]:
    if value:
        raise PydanticCustomError(
            "loss_kwargs", "loss_fn causal_lm and cross_entropy take no options; leave loss_kwargs out"
        )
    return value


class ForwardBackwardRequest(Request):
    """What `forward_backward` takes."""

    refused: ClassVar[Mapping[str, str]] = {
        name: f"{name} is not available: {_REASON}"
        for name in (
            "old_log_probs",
            "rewards",
            "values",
            "old_values",
            "advantages",
            "behavior_log_probs",
            "reference_model",
            "use_gae",
            "gamma",
            "gae_lambda",
        )
    }

    batch_data: list[TrainingExample] = Field(min_length=1, max_length=128, description="1 to 128 examples.")
    accumulate: bool = Field(
        default=False, description="true adds to the held gradients, false puts these in their place."
    )
    loss_fn: Literal["causal_lm", "cross_entropy"] = Field(
        default="causal_lm", description="Cross-entropy of the next token; both names mean the same."
    )
    loss_kwargs: Annotated[dict[str, object], pydantic.AfterValidator(_check_empty)] | None = Field(
        default=None, description="Options of the loss; these losses have none, so only {} and null are taken."
    )
    request_id: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        default=None,
        description="Comes back in the answer; null = made here. It does not make the call idempotent.",
    )


class GradStats(Result):
    """The gradient that is held after the call."""

    norm: float = Field(description="L2 norm of accumulated sum / accumulated weight.")
    max: float = Field(description="Largest absolute entry of the same.")


class ForwardBackwardMetrics(Result):
    """What the call processed."""

    tokens: int = Field(description="Input tokens of this call.")
    weighted_tokens: float = Field(description="Tokens that were learned (sum of weights).")
    loss_sum: float = Field(description="Loss before the division by weighted_tokens.")
    packed_runs: int = Field(description="Runs that shared a forward pass with this call, itself included.")
    compute_s: float = Field(description="Wall seconds of compute.")
    tokens_per_s: float | None = Field(description="tokens / compute_s; null when too fast to measure.")


class ForwardBackwardResponse(Result):
    """What `forward_backward` answers."""

    loss: float = Field(description="Mean over the weighted tokens of this call, in nats.")
    step: int = Field(description="Optimiser steps applied so far.")
    grad_norm: float = Field(description="As grad_stats.norm.")
    grad_stats: GradStats = Field(description="The gradient that is held now.")
    request_id: str = Field(description="As sent, or made here.")
    status: Literal["completed"] = Field(
        description="Always completed: the call is blocking, errors have their own answer."
    )
    rl_metrics: None = Field(default=None, description="Null: no reinforcement learning loss exists here.")
    metrics: ForwardBackwardMetrics = Field(description="The call in numbers: tokens, loss and seconds.")


class OptimStepRequest(Request):
    """What `optim_step` takes."""

    learning_rate: float | None = Field(
        default=None, gt=0, le=1, description="Replaces the schedule's rate for this one step; null = the schedule's."
    )


class OptimMetrics(Result):
    """The step in numbers; the same entry stands in GET /runs/{id}/metrics."""

    loss: float | None = Field(
        description="Mean over the weighted tokens of all calls since the last step; null = not known."
    )
    grad_norm: float = Field(description="L2 norm of the gradient that was applied.")
    weight_norm: float = Field(description="L2 norm of all adapter weights after the step.")
    learning_rate: float = Field(description="That was applied.")
    tokens: int | None = Field(description="Input tokens since the last step; null = not known.")
    tokens_per_s: float | None = Field(description="Those tokens over the compute seconds; null = not known.")
    durable_step: int = Field(description="Steps that survive a crash now.")


class OptimStepResponse(Result):
    """What `optim_step` answers."""

    step: int = Field(description="Optimiser steps applied, this one included.")
    learning_rate: float = Field(description="That was applied.")
    metrics: OptimMetrics = Field(description="The step in numbers.")
