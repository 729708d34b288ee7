"""What an engine must know to open a run, with a plain value for everything that a test does not care about."""

from typing import Any

from trainyard.engine import types


def make(run_id: str, state_dir: object, **changes: Any) -> types.RunSpec:
    """Describe a small run: rank 4 on all projections, AdamW at a constant 1e-3, float32.

    Args:
        run_id: Its id.
        state_dir: Where its durable state goes.
        changes: Fields of `RunSpec` to set otherwise.
    """
    plain: dict[str, Any] = {
        "lora_r": 4, "lora_alpha": 8.0, "lora_dropout": 0.0, "target_modules": types.PROJECTIONS,
        "optimizer": "adamw", "learning_rate": 1e-3, "weight_decay": 0.0, "lr_scheduler": None, "warmup_steps": 0,
        "lr_total_steps": None, "bf16": False, "gradient_checkpointing": False, "seed": 0,
    }  # fmt: skip
    return types.RunSpec(run_id=run_id, state_dir=str(state_dir), **(plain | changes))
