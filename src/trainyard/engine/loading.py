"""Weights between Hugging Face directories and the decoder: read into the fused layout, written as usual."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from trainyard.core import errors
from trainyard.engine import config_hf
from trainyard.engine.config import ModelConfig
from trainyard.engine.model import Decoder, projection_groups

_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_PARENT = {"qkv": "self_attn", "o": "self_attn", "gate_up": "mlp", "down": "mlp"}


def module_name(layer: int, group: str, projection: str) -> str:
    """Name a projection as transformers and PEFT do: `model.layers.0.self_attn.q_proj`."""
    return f"model.layers.{layer}.{_PARENT[group]}.{projection}"


def weight_names(cfg: ModelConfig) -> Iterator[tuple[str, list[tuple[str, int, int]]]]:
    """Pair each parameter of the decoder with its Hugging Face tensors and their rows (start, stop) in it; -1 = all."""
    yield "embed.weight", [("model.embed_tokens.weight", 0, -1)]
    for layer in range(cfg.layers):
        ours, theirs = f"blocks.{layer}", f"model.layers.{layer}"
        yield f"{ours}.attention_norm", [(f"{theirs}.input_layernorm.weight", 0, -1)]
        yield f"{ours}.mlp_norm", [(f"{theirs}.post_attention_layernorm.weight", 0, -1)]
        if cfg.qk_norm:
            yield f"{ours}.q_norm", [(f"{theirs}.self_attn.q_norm.weight", 0, -1)]
            yield f"{ours}.k_norm", [(f"{theirs}.self_attn.k_norm.weight", 0, -1)]
        biased = {"qkv": cfg.qkv_bias, "o": cfg.o_bias, "gate_up": cfg.mlp_bias, "down": cfg.mlp_bias}
        for group, parts in projection_groups(cfg).items():
            for kind in ("weight", "bias") if biased[group] else ("weight",):
                yield (
                    f"{ours}.{group}.{kind}",
                    [(f"{module_name(layer, group, name)}.{kind}", a, b) for name, (a, b) in parts.items()],
                )
    yield "norm", [("model.norm.weight", 0, -1)]
    if not cfg.tied_head:
        yield "head.weight", [("lm_head.weight", 0, -1)]


def load_decoder(
    directory: str | Path, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Decoder:
    """Read a model directory (one or sharded safetensors) into a frozen decoder.

    Raises:
        errors.ConfigError: An unsupported configuration, or a tensor that is absent, of another shape, or unknown to
        the configuration.
    """
    directory = Path(directory)
    cfg = ModelConfig.from_directory(directory)
    with torch.device("meta"):
        decoder = Decoder(cfg)
    shapes = {name: parameter.shape for name, parameter in decoder.named_parameters()}
    with ExitStack() as stack:
        read = _open_shards(directory, stack, cfg)
        state = {name: _assemble(name, parts, shapes[name], read, dtype, device) for name, parts in weight_names(cfg)}
    decoder.load_state_dict(state, assign=True)
    return decoder.requires_grad_(False).eval()


def _open_shards(directory: Path, stack: ExitStack, cfg: ModelConfig) -> Callable[[str], Tensor]:
    index = directory / "model.safetensors.index.json"
    files = (
        sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        if index.exists()
        else ["model.safetensors"]
    )
    found = {}
    for file in files:
        try:
            shard = stack.enter_context(safe_open(directory / file, framework="pt"))
        except (OSError, SafetensorError) as cause:
            raise errors.ConfigError(f"{directory / file} is not a readable safetensors file: {cause}") from cause
        found.update(dict.fromkeys(shard.keys(), shard))
    known = {name for _, parts in weight_names(cfg) for name, _, _ in parts}
    stray = {
        n
        for n in found
        if n not in known and not n.endswith("rotary_emb.inv_freq") and not (cfg.tied_head and n == "lm_head.weight")
    }
    if stray or not known <= found.keys():
        missing = sorted(known - found.keys())[:4]
        message = f"{directory}: tensors missing {missing}, not foreseen by config.json {sorted(stray)[:4]}"
        raise errors.ConfigError(message)
    return lambda name: found[name].get_tensor(name)


def _assemble(
    name: str,
    parts: list[tuple[str, int, int]],
    shape: torch.Size,
    read: Callable[[str], Tensor],
    dtype: torch.dtype,
    device: torch.device | str,
) -> Tensor:
    """Copy the tensors of one parameter to their rows, so that no second copy of the weights stays behind."""
    out = torch.empty(shape, dtype=dtype, device=device)
    for theirs, start, stop in parts:
        target, source = (out if stop < 0 else out[start:stop]), read(theirs)
        if target.shape != source.shape:
            raise errors.ConfigError(
                f"{theirs} is {tuple(source.shape)}; config.json asks for {tuple(target.shape)} ({name})"
            )
        target.copy_(source)
    return out


def hf_tensors(decoder: Decoder) -> dict[str, Tensor]:
    """Give views of the weights under their Hugging Face names; nothing is copied."""
    state = dict(decoder.named_parameters())
    return {
        theirs: (state[ours].detach() if stop < 0 else state[ours].detach()[start:stop])
        for ours, parts in weight_names(decoder.cfg)
        for theirs, start, stop in parts
    }


def save_decoder(decoder: Decoder, directory: str | Path, dtype: torch.dtype = torch.float32) -> None:
    """Write `config.json` and `model.safetensors` into an existing or new directory, as transformers would."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    write_weights(hf_tensors(decoder), directory, dtype)
    text = json.dumps(config_hf.write(decoder.cfg, str(dtype).removeprefix("torch.")), indent=2)
    (directory / "config.json").write_text(text + "\n", encoding="utf-8")


def write_weights(tensors: dict[str, Tensor], directory: Path, dtype: torch.dtype) -> None:
    """Write tensors of any device as `model.safetensors`."""
    plain = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in tensors.items()}
    save_tensors(plain, directory / "model.safetensors", {"format": "pt"})


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a file in the format of safetensors.

    Raises:
        OSError: The disk refuses; the library tells that in words only.
    """
    try:
        save_file(tensors, path, metadata=metadata)
    except SafetensorError as cause:
        found = _OS_ERROR.search(str(cause))
        if found is None:
            raise
        number = int(found[1])
        raise OSError(number, os.strerror(number), str(path)) from cause
