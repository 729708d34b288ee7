"""Saving: a directory that is complete and verified, or not there."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from trainyard.core import errors
from trainyard.engine import durability, loading, peft_files
from trainyard.engine.adapters import AdapterTensors
from trainyard.engine.model import Decoder

_OWN = ("config.json", "model.safetensors.index.json")
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack")


def save_adapter(weights: AdapterTensors, directory: Path, base_model: str, version: str) -> dict[str, int]:
    """Write an adapter in PEFT's format; returns relative path -> bytes.

    Raises:
        errors.Conflict: code `already_exists`.
    """

    def write(place: Path) -> None:
        peft_files.save(weights, place, base_model, version)
        again, _ = peft_files.load(weights.layout.cfg, place, weights.flat.device)
        _verify(peft_files.tensors(weights), peft_files.tensors(again).__getitem__)

    return _atomically(directory, write)


def save_merged(decoder: Decoder, weights: AdapterTensors, directory: Path, model_dir: Path) -> dict[str, int]:
    """Write the base model with the adapter added in, with the base's tokenizer files; raises as `save_adapter`."""

    def write(place: Path) -> None:
        _copy_companions(model_dir, place)
        merged = merge(decoder, weights)
        loading.write_weights(merged, place, decoder.dtype)
        config = json.loads((model_dir / "config.json").read_text(encoding="utf-8"))
        config.pop("torch_dtype", None)
        config["dtype"] = str(decoder.dtype).removeprefix("torch.")
        (place / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        with safe_open(place / "model.safetensors", framework="pt") as opened:
            _verify(merged, opened.get_tensor)

    return _atomically(directory, write)


def merge(decoder: Decoder, weights: AdapterTensors) -> dict[str, Tensor]:
    """Give the weights under their Hugging Face names with scale * B A added, computed in float32."""
    out = loading.hf_tensors(decoder)
    for layer, group, projection, a_rD, b_Or in weights.projections():
        name = f"{loading.module_name(layer, group, projection)}.weight"
        out[name] = torch.addmm(out[name].float(), b_Or, a_rD, alpha=weights.layout.spec.scale).to(decoder.dtype)
    return out


def _copy_companions(model_dir: Path, place: Path) -> None:
    """Copy tokenizer, chat template and generation settings: every plain file that is no weight."""
    for file in sorted(model_dir.iterdir()):
        if file.is_file() and file.name not in _OWN and file.suffix not in _WEIGHT_SUFFIXES:
            shutil.copyfile(file, place / file.name)


def _verify(written: dict[str, Tensor], read: Callable[[str], Tensor]) -> None:
    for name, tensor in written.items():
        if not torch.equal(read(name).to(tensor.device), tensor):
            raise errors.TrainyardError(
                f"{name} read back from disk is not what was written", code="checkpoint_corrupt"
            )


def _atomically(directory: Path, write: Callable[[Path], None]) -> dict[str, int]:
    if directory.exists():
        raise errors.Conflict(
            f"{directory.name} exists already; a checkpoint is never overwritten", code="already_exists"
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    place = directory.with_name(f".{directory.name}.new")
    shutil.rmtree(place, ignore_errors=True)  # what a crash may have left
    place.mkdir()
    try:
        write(place)
        files = {str(f.relative_to(place)): f.stat().st_size for f in sorted(place.rglob("*")) if f.is_file()}
        for name in files:
            _flush(place / name)
        durability.sync_directory(place)
        place.rename(directory)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    durability.sync_directory(directory.parent)
    return files


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
