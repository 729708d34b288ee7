"""The configuration of a run: as asked for, and as it takes effect."""

import re
from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field
from pydantic_core import PydanticCustomError

from trainyard.training.types.base import Request, Result, refusal

Projection = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
GPU_TYPES = ("L40S", "A100", "A100-80GB", "H100", "B200", "T4", "A10G")
MAX_SEED = 2**53 - 1
"""The largest whole number that every JSON reader keeps exactly."""

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_GPU = re.compile(rf"({'|'.join(map(re.escape, GPU_TYPES))}):[1-8]")
_DECAYS = ("cosine", "linear")


def _check_model_name(name: str) -> str:
    if ".." in name or not _MODEL_NAME.fullmatch(name):
        raise PydanticCustomError(
            "model_name",
            "A model name has the form org/name (letters, digits, '.', '_', '-'; no '..'); see GET /models",
        )
    return name


def _check_gpu(value: str) -> str:
    if not _GPU.fullmatch(value):
        raise PydanticCustomError(
            "gpu_config",
            "gpu_config is TYPE:COUNT with TYPE one of {types} and COUNT 1 to 8, such as H100:2",
            {"types": ", ".join(GPU_TYPES)},
        )
    return value


def _check_unique(modules: list[Projection]) -> list[Projection]:
    if len(set(modules)) != len(modules):
        raise PydanticCustomError("duplicate_module", "Each module can be named once")
    return modules


class RunConfig(Request):
    """What `POST /runs` takes."""

    base_model: Annotated[str, Field(max_length=200), pydantic.AfterValidator(_check_model_name)] = Field(
        description="Catalog name of the frozen model below the adapter, `org/name`; GET /models lists them."
    )
    gpu_config: Annotated[str, pydantic.AfterValidator(_check_gpu)] | None = Field(
        default=None,
        description="GPU wish, `TYPE:COUNT`. Checked and recorded; the answer's `gpu` says whether it applies.",
    )
    lora_r: int = Field(default=32, ge=1, le=512, description="Rank of the adapter.")
    lora_alpha: int = Field(
        default=64, ge=1, le=1024, description="The adapter's output is scaled by lora_alpha / lora_r."
    )
    lora_dropout: float = Field(
        default=0.0, ge=0, le=0.5, description="Share of the adapter's inputs dropped while training."
    )
    lora_target_modules: Annotated[list[Projection], pydantic.AfterValidator(_check_unique)] | None = Field(
        default=None, min_length=1, description="Linear maps that carry an adapter; null = all seven."
    )
    optimizer: Literal["adamw", "adamw_8bit"] = Field(
        default="adamw", description="adamw keeps its moments in float32, adamw_8bit in block-wise quantised 8 bits."
    )
    learning_rate: float = Field(default=3e-4, gt=0, le=1, description="Peak learning rate of a step.")
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="Decoupled weight decay.")
    lr_scheduler: Literal["cosine", "linear", "constant_with_warmup"] | None = Field(
        default=None, description="Course of the learning rate; null = constant, after warmup_steps if there are any."
    )
    warmup_steps: int = Field(
        default=0, ge=0, le=1_000_000_000, description="Steps of linear rise to the learning rate."
    )
    lr_total_steps: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000_000,
        description="Steps over which cosine and linear fall to 0; both require it.",
    )
    max_seq_length: int | None = Field(
        default=None,
        ge=128,
        le=131_072,
        description="Longest example in tokens; null = min(2048, the model's context).",
    )
    bf16: bool | None = Field(
        default=None, description="Train with bfloat16 activations; null = what the device does best."
    )
    gradient_checkpointing: bool | None = Field(
        default=None, description="Trade compute for memory; null = what the device does best."
    )
    seed: int | None = Field(
        default=None, ge=0, le=MAX_SEED, description="For the initial adapter and dropout; null = drawn, and shown."
    )

    @pydantic.model_validator(mode="after")
    def check_schedule(self) -> Self:
        """Refuse a schedule that lacks its length, and a length that no schedule uses."""
        given = {"lr_total_steps": self.lr_total_steps, "warmup_steps": self.warmup_steps}
        if self.lr_scheduler in _DECAYS:
            if self.lr_total_steps is None:
                reason = f"lr_scheduler {self.lr_scheduler} needs lr_total_steps, the number of optimiser steps to come"
                raise refusal("RunConfig", {"lr_total_steps": reason}, given)
            if self.warmup_steps >= self.lr_total_steps:
                raise refusal("RunConfig", {"warmup_steps": "warmup_steps must be less than lr_total_steps"}, given)
        elif self.lr_total_steps is not None:
            reason = "lr_total_steps belongs to lr_scheduler cosine or linear; leave it out with any other"
            raise refusal("RunConfig", {"lr_total_steps": reason}, given)
        return self


class EffectiveConfig(Result):
    """The configuration as it takes effect: no null left where the server decided."""

    base_model: str = Field(description="Catalog name of the base model.")
    gpu_config: str | None = Field(description="GPU wish as sent.")
    lora_r: int = Field(description="Rank.")
    lora_alpha: int = Field(description="Scale numerator.")
    lora_dropout: float = Field(description="Dropout on the adapter's inputs.")
    lora_target_modules: list[Projection] = Field(description="Linear maps that carry an adapter.")
    optimizer: Literal["adamw", "adamw_8bit"] = Field(description="Optimiser.")
    learning_rate: float = Field(description="Peak learning rate.")
    weight_decay: float = Field(description="Decoupled weight decay.")
    lr_scheduler: Literal["cosine", "linear", "constant_with_warmup"] | None = Field(
        description="Course of the learning rate; null = constant."
    )
    warmup_steps: int = Field(description="Steps of linear rise.")
    lr_total_steps: int | None = Field(description="Steps over which the rate falls to 0; null = it does not fall.")
    max_seq_length: int = Field(description="Longest training example in tokens.")
    bf16: bool = Field(description="Whether activations are bfloat16.")
    gradient_checkpointing: bool = Field(description="Whether activations are recomputed.")
    seed: int = Field(description="Seed of the initial adapter and of dropout.")
