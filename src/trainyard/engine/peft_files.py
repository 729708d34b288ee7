"""Adapters in PEFT's file format: `adapter_config.json` and `adapter_model.safetensors`."""

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from trainyard.core import errors
from trainyard.engine import adapters
from trainyard.engine.adapters import AdapterLayout, AdapterSpec, AdapterTensors
from trainyard.engine.config import ModelConfig
from trainyard.engine.loading import module_name, save_tensors
from trainyard.engine.model import projection_groups
from trainyard.engine.types import PROJECTIONS

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_VERSION_KEY = "trainyard_version"
_PLAIN: dict[str, Any] = {
    "peft_type": "LORA",
    "bias": "none",
    "use_dora": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "modules_to_save": None,
    "fan_in_fan_out": False,
    "lora_bias": False,
}
"""Fields of PEFT's configuration with the only value that this engine runs."""


def save(weights: AdapterTensors, directory: Path, base_model: str, version: str) -> None:
    """Write both files into an existing directory; version is kept in the metadata of the weights."""
    spec = weights.layout.spec
    config = _PLAIN | {
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": spec.rank,
        "lora_alpha": int(spec.alpha) if float(spec.alpha).is_integer() else spec.alpha,
        "lora_dropout": spec.dropout,
        "target_modules": list(spec.targets),
        "use_rslora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }
    (directory / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors(weights).items()}
    save_tensors(plain, directory / WEIGHTS, {"format": "pt", _VERSION_KEY: version})


def tensors(weights: AdapterTensors) -> dict[str, Tensor]:
    """Give A and B of every projection under PEFT's names, as views."""
    out = {}
    for layer, group, projection, a_rD, b_Or in weights.projections():
        prefix = _prefix(layer, group, projection)
        out[f"{prefix}.lora_A.weight"], out[f"{prefix}.lora_B.weight"] = a_rD, b_Or
    return out


def stamp(directory: Path) -> int:
    """Tell when the weights of a directory were last changed, in nanoseconds; errors.NotFound when there are none."""
    try:
        return (directory / WEIGHTS).stat().st_mtime_ns
    except OSError as cause:
        raise errors.NotFound(f"{directory} holds no adapter in PEFT's format", code="adapter_not_found") from cause


def load(cfg: ModelConfig, directory: Path, device: torch.device) -> tuple[AdapterTensors, str]:
    """Read an adapter and its version (`<run_id>@<step>`, or the directory's name for a foreign one).

    Raises:
        errors.NotFound: code `adapter_not_found`.
        errors.InvalidRequest: code `adapter_unsupported`: damaged, of another model, of an unknown kind, or not finite.
    """
    stamp(directory)
    try:
        config = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
        with safe_open(directory / WEIGHTS, framework="pt") as opened:
            version = (opened.metadata() or {}).get(_VERSION_KEY, directory.name)
            found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, ValueError, SafetensorError) as cause:
        raise _unsupported(directory, f"damaged: {cause}") from cause
    spec = _spec(directory, config, found)
    _check_tensors(cfg, spec, directory, found)
    layout = AdapterLayout(cfg, spec)
    weights = adapters.zeros(layout, torch.device("cpu"))
    wanted = tensors(weights)
    for name, tensor in found.items():
        wanted[name].copy_(tensor)
    if not bool((weights.flat * spec.scale).isfinite().all()):
        raise _unsupported(directory, "its numbers, scaled by lora_alpha / r, are not finite")
    return AdapterTensors(layout, weights.flat.to(device)), version


def _spec(directory: Path, config: Any, found: dict[str, Tensor]) -> AdapterSpec:
    """Read rank and scale from the configuration and the targets from what is really there."""
    if not isinstance(config, dict):
        raise _unsupported(directory, f"{CONFIG} is not an object")
    for field, only in _PLAIN.items():
        value = config.get(field, only)
        if value != only and not (not value and not only):
            raise _unsupported(directory, f"{field} = {value!r}; only {only!r} is supported")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(rank, int) or rank < 1:
        raise _unsupported(directory, f"r = {rank!r}; it must be a whole number of at least 1")
    if not isinstance(alpha, int | float) or not math.isfinite(alpha):
        raise _unsupported(directory, f"lora_alpha = {alpha!r}; it must be a finite number")
    present = {name.split(".")[-3] for name in found if name.count(".") >= 2}
    targets = tuple(p for p in PROJECTIONS if p in present)
    return AdapterSpec(rank, alpha * math.sqrt(rank) if config.get("use_rslora") else float(alpha), 0.0, targets)


def _check_tensors(cfg: ModelConfig, spec: AdapterSpec, directory: Path, found: dict[str, Tensor]) -> None:
    """Compare names and shapes with what this model takes, before any memory is asked for."""
    wanted = _shapes(cfg, spec.rank)
    stray = sorted(found.keys() - wanted.keys())
    if stray or not found:
        raise _unsupported(directory, f"tensors that this model has no place for: {stray[:3]}")
    for name, tensor in found.items():
        if wanted[name] != tuple(tensor.shape) or not tensor.is_floating_point():
            has = f"{tuple(tensor.shape)} of {tensor.dtype}"
            raise _unsupported(directory, f"{name} is {has}, the model needs {wanted[name]} of a float type")
        other = name.replace("lora_A", "lora_B") if "lora_A" in name else name.replace("lora_B", "lora_A")
        if other not in found:
            raise _unsupported(directory, f"{name} is there without {other}")


def _shapes(cfg: ModelConfig, rank: int) -> dict[str, tuple[int, int]]:
    """Name every tensor that an adapter of this rank may have: PEFT's name -> shape."""
    inputs = {"o": cfg.heads * cfg.head_dim, "down": cfg.intermediate_size}
    out = {}
    for layer in range(cfg.layers):
        for group, projections in projection_groups(cfg).items():
            for projection, (start, stop) in projections.items():
                prefix = _prefix(layer, group, projection)
                out[f"{prefix}.lora_A.weight"] = rank, inputs.get(group, cfg.hidden_size)
                out[f"{prefix}.lora_B.weight"] = stop - start, rank
    return out


def _prefix(layer: int, group: str, projection: str) -> str:
    return f"base_model.model.{module_name(layer, group, projection)}"


def _unsupported(directory: Path, reason: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(f"the adapter in {directory} cannot be used: {reason}", code="adapter_unsupported")
