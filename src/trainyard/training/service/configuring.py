"""From the configuration that was asked for to the one that takes effect."""

import secrets
from pathlib import Path

from trainyard.core import errors
from trainyard.engine import types as engine
from trainyard.training.store import RunRecord
from trainyard.training.types import EffectiveConfig, GpuAssignment, Projection, RunConfig

DEFAULT_SEQ_LENGTH = 2048
ALL_PROJECTIONS: tuple[Projection, ...] = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
)


def effective(config: RunConfig, base_model: str, info: engine.ModelInfo) -> EffectiveConfig:
    """Put the server's decision wherever the request left one to it.

    Args:
        config: As sent.
        base_model: Catalog name, aliases resolved.
        info: The model and what its device does best.

    Raises:
        errors.InvalidRequest: `max_seq_length` is over the model's context.
    """
    longest = info.max_positions
    if config.max_seq_length is not None and config.max_seq_length > longest:
        raise errors.InvalidRequest(
            f"max_seq_length {config.max_seq_length} is over the context of {base_model}, {longest} tokens; "
            f"send at most {longest}",
            param="max_seq_length",
        )
    decided: dict[str, object] = {
        "base_model": base_model,
        "lora_target_modules": config.lora_target_modules or list(ALL_PROJECTIONS),
        "lr_scheduler": config.lr_scheduler or ("constant_with_warmup" if config.warmup_steps else None),
        "max_seq_length": config.max_seq_length or min(DEFAULT_SEQ_LENGTH, longest),
        "bf16": _first(config.bf16, info.bf16_default),
        "gradient_checkpointing": _first(config.gradient_checkpointing, info.gradient_checkpointing_default),
        "seed": secrets.randbelow(2**31) if config.seed is None else config.seed,
    }
    return EffectiveConfig.model_validate({**config.model_dump(), **decided})


def config_of(record: RunRecord) -> EffectiveConfig:
    """Read the configuration that a run was recorded with."""
    return EffectiveConfig.model_validate(dict(record.config))


def spec(record: RunRecord, run_dir: Path) -> engine.RunSpec:
    """Say to the engine what the run is; the same for the whole life of the run."""
    config = config_of(record)
    return engine.RunSpec(
        run_id=record.run_id,
        state_dir=str(run_dir / "state"),
        lora_r=config.lora_r,
        lora_alpha=float(config.lora_alpha),
        lora_dropout=config.lora_dropout,
        target_modules=tuple(config.lora_target_modules),
        optimizer=config.optimizer,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        lr_scheduler=config.lr_scheduler,
        warmup_steps=config.warmup_steps,
        lr_total_steps=config.lr_total_steps,
        bf16=config.bf16,
        gradient_checkpointing=config.gradient_checkpointing,
        seed=config.seed,
    )


def gpu_assignment(config: EffectiveConfig) -> GpuAssignment:
    """Tell what became of the GPU wish: the operator chooses devices, by `engine.device`, not the run."""
    if config.gpu_config is None:
        reason = "no GPU was asked for; the server's engine.device decides where the run computes"
    else:
        reason = "recorded only: the server's engine.device decides where the run computes; model_info names the device"
    return GpuAssignment(requested=config.gpu_config, applied=False, reason=reason)


def _first(value: bool | None, default: bool) -> bool:
    return default if value is None else value
