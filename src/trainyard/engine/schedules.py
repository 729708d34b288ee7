"""Learning rates as functions of the step alone, so that a schedule's state is one number."""

import math

from trainyard.core import errors
from trainyard.engine.types import RunSpec, SchedulerName


def check(name: SchedulerName | None, total_steps: int | None, warmup_steps: int) -> None:
    """Refuse a schedule that cannot be computed; errors.InvalidRequest."""
    if name in ("cosine", "linear") and total_steps is None:
        raise errors.InvalidRequest(f"lr_scheduler {name!r} needs lr_total_steps", param="lr_total_steps")
    if total_steps is not None and total_steps < warmup_steps:
        raise errors.InvalidRequest(
            f"lr_total_steps {total_steps} is below warmup_steps {warmup_steps}", param="warmup_steps"
        )


def factor(name: SchedulerName | None, step: int, warmup_steps: int, total_steps: int | None) -> float:
    """Give the share of the base rate at a step.

    Args:
        name: None is constant from the first step on, unless there is a warm-up.
        step: Optimiser steps done before, from 0.
        warmup_steps: Steps over which the share rises from 0 to 1 in equal parts.
        total_steps: At which cosine and linear reach 0, where they stay.

    Source:
        transformers `get_{constant,linear,cosine}_schedule_with_warmup`.
    """
    if step < warmup_steps:
        return step / warmup_steps
    if name in (None, "constant_with_warmup") or total_steps is None:
        return 1.0
    progress = min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps))
    return 1.0 - progress if name == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))


def learning_rate(spec: RunSpec, step: int) -> float:
    """Give the rate that the schedule of a run sets for the step after `step` done ones."""
    return spec.learning_rate * factor(spec.lr_scheduler, step, spec.warmup_steps, spec.lr_total_steps)
