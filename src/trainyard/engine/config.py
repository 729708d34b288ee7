"""What a Hugging Face `config.json` says about a decoder; nothing in it is silently ignored. Free of torch."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainyard.core import errors

ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
    "MistralForCausalLM": "mistral",
}
"""Supported architectures -> `model_type` as transformers writes it."""

_READ = frozenset({
    "architectures", "model_type", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings",
    "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters", "tie_word_embeddings", "attention_bias",
    "mlp_bias", "hidden_act", "sliding_window", "use_sliding_window", "max_window_layers", "layer_types",
    "bos_token_id", "eos_token_id", "pad_token_id",
})  # fmt: skip
_NEUTRAL = frozenset({
    "dtype", "torch_dtype", "transformers_version", "use_cache", "initializer_range", "pretraining_tp",
    "name_or_path", "id2label", "label2id", "return_dict", "output_hidden_states", "output_attentions",
    "chunk_size_feed_forward", "problem_type", "is_encoder_decoder", "is_decoder", "use_mrope",
    "unsloth_version", "unsloth_fixed", "sep_token_id", "cls_token_id", "rope_interleaved",
})  # fmt: skip
"""Fields that change no logit of a loaded model (file formats, initial values, interfaces of transformers itself)."""
_OFF: Mapping[str, Any] = {"attention_dropout": 0, "partial_rotary_factor": 1, "quantization_config": None}
"""Fields that would change results, with the only value that this engine can honour."""


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched.

    Attributes:
        kind: "linear" (all frequencies divided by factor) or "llama3" (only the low ones).
        original_positions: Context before stretching; used by llama3 alone, like low_factor and high_factor.
    """

    kind: str
    factor: float
    low_factor: float = 1.0
    high_factor: float = 4.0
    original_positions: int = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The shape of one decoder of the Llama family.

    Attributes:
        max_positions: Context length in tokens.
        qkv_bias: Biases on q, k and v; o_bias and mlp_bias likewise.
        qk_norm: RMSNorm over each head of q and k (Qwen3).
        windows: Sliding window in tokens per layer, None = full attention; empty = full everywhere.
        eos_token_ids: As many as the file names; the engine itself stops at none of them.
    """

    architecture: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_positions: int
    rms_eps: float = 1e-6
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    tied_head: bool = False
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    windows: tuple[int | None, ...] = ()
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()
    pad_token_id: int | None = None

    @classmethod
    def from_directory(cls, path: str | Path) -> "ModelConfig":
        """Read `config.json` of a model directory.

        Raises:
            errors.ConfigError: The file is absent or broken, or asks for something that this engine does not do.
        """
        file = Path(path) / "config.json"
        try:
            raw = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as cause:
            raise errors.ConfigError(f"{file} is not a readable Hugging Face config.json: {cause}") from cause
        return cls.from_hf(raw)

    @classmethod
    def from_hf(cls, raw: Mapping[str, Any]) -> "ModelConfig":
        """Translate the fields of a Hugging Face configuration; raises as `from_directory`."""
        if not isinstance(raw, Mapping):
            raise errors.ConfigError("config.json is not an object")
        architecture = _architecture(raw)
        _refuse_unsupported(raw)
        try:
            cfg = cls(architecture=architecture, **_shape(raw, architecture), **_attention(raw, architecture))
        except (KeyError, TypeError, ValueError, ArithmeticError) as cause:
            raise errors.ConfigError(f"config.json: field {cause} is missing or malformed") from cause
        _check_ranges(cfg)
        return cfg

    def window(self, layer: int) -> int | None:
        """Sliding window of a layer in tokens; None when it attends to everything before it."""
        return self.windows[layer] if self.windows else None


MAX_LAYERS, MAX_WIDTH = 1024, 1 << 24
"""Far beyond any model of these families; a damaged file is refused before memory or hours are spent on it."""


def _check_ranges(cfg: ModelConfig) -> None:
    """Refuse sizes that no decoder can have."""
    widths = ("vocab_size", "hidden_size", "intermediate_size", "heads", "kv_heads", "head_dim", "max_positions")
    rules = {name: (1 <= getattr(cfg, name) <= MAX_WIDTH, f"in 1..{MAX_WIDTH}") for name in widths}
    rules |= {
        "layers": (1 <= cfg.layers <= MAX_LAYERS, f"in 1..{MAX_LAYERS}"),
        "kv_heads": (cfg.kv_heads >= 1 and cfg.heads % cfg.kv_heads == 0, f"a divisor of {cfg.heads} heads"),
        "head_dim": (cfg.head_dim >= 1 and cfg.head_dim % 2 == 0, "even"),
        "rms_eps": (0.0 < cfg.rms_eps < math.inf, "finite and above 0"),
        "rope_theta": (0.0 < cfg.rope_theta < math.inf, "finite and above 0"),
        "windows": (all(window is None or window >= 1 for window in cfg.windows), "at least 1"),
    }
    scaling = cfg.rope_scaling
    if scaling:
        is_good = 0.0 < scaling.factor < math.inf and scaling.original_positions >= 1
        is_good = is_good and 0.0 < scaling.low_factor < scaling.high_factor < math.inf
        rules["rope_scaling"] = (is_good, "made of positive finite numbers, low_freq_factor below high_freq_factor")
    for name, (is_good, range_text) in rules.items():
        if not is_good:
            raise errors.ConfigError(f"config.json: {name} = {getattr(cfg, name)} must be {range_text}", param=name)


def _architecture(raw: Mapping[str, Any]) -> str:
    names = raw.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise errors.ConfigError(f"config.json: architectures {names!r} must be a list of names", param="architectures")
    by_type = {model_type: name for name, model_type in ARCHITECTURES.items()}
    name = names[0] if names else by_type.get(str(raw.get("model_type")), str(raw.get("model_type")))
    if len(names) > 1 or name not in ARCHITECTURES:
        raise errors.ConfigError(
            f"architecture {names or name} is not supported; supported are {', '.join(ARCHITECTURES)}"
        )
    return str(name)


def _refuse_unsupported(raw: Mapping[str, Any]) -> None:
    for field, only in _OFF.items():
        if raw.get(field, only) != only:
            raise errors.ConfigError(
                f"config.json: {field} = {raw[field]!r} is not supported; only {only!r} is", param=field
            )
    if raw.get("hidden_act", "silu") not in ("silu", "swish"):
        raise errors.ConfigError(
            f"config.json: hidden_act {raw['hidden_act']!r} is not supported; only 'silu' is", param="hidden_act"
        )
    unknown = sorted(
        k
        for k in raw
        if k not in _READ | _NEUTRAL | _OFF.keys() and not k.startswith("_") and raw[k] not in (None, False)
    )
    if unknown:
        raise errors.ConfigError(
            f"config.json: {', '.join(unknown)} could change results and is not known here; "
            f"known are {', '.join(sorted(_READ))}",
            param=unknown[0],
        )


def _shape(raw: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    heads, hidden = int(raw["num_attention_heads"]), int(raw["hidden_size"])
    default_dim = 128 if architecture == "Qwen3ForCausalLM" else hidden // heads
    eos = raw.get("eos_token_id")
    return {
        "vocab_size": int(raw["vocab_size"]),
        "hidden_size": hidden,
        "intermediate_size": int(raw["intermediate_size"]),
        "layers": int(raw["num_hidden_layers"]),
        "heads": heads,
        "kv_heads": int(raw.get("num_key_value_heads") or heads),
        "head_dim": int(raw.get("head_dim") or default_dim),
        "max_positions": int(raw["max_position_embeddings"]),
        "rms_eps": float(raw.get("rms_norm_eps", 1e-6)),
        "tied_head": bool(raw.get("tie_word_embeddings", False)),
        "bos_token_id": raw.get("bos_token_id"),
        "eos_token_ids": tuple(eos) if isinstance(eos, list) else () if eos is None else (int(eos),),
        "pad_token_id": raw.get("pad_token_id"),
    }


def _attention(raw: Mapping[str, Any], architecture: str) -> dict[str, Any]:
    theta, scaling = _rope(raw)
    bias = bool(raw.get("attention_bias", False))
    qwen2 = architecture == "Qwen2ForCausalLM"
    if (qwen2 or architecture == "MistralForCausalLM") and bias:
        raise errors.ConfigError(
            f"config.json: {architecture} has no attention_bias to switch on", param="attention_bias"
        )
    return {
        "rope_theta": theta,
        "rope_scaling": scaling,
        "qkv_bias": qwen2 or bias,
        "o_bias": bias,
        "mlp_bias": bool(raw.get("mlp_bias", False)),
        "qk_norm": architecture == "Qwen3ForCausalLM",
        "windows": _windows(raw, architecture),
    }


def _rope(raw: Mapping[str, Any]) -> tuple[float, RopeScaling | None]:
    """Read theta and scaling, from transformers v5's `rope_parameters` or v4's `rope_theta` + `rope_scaling`."""
    block = dict(raw.get("rope_parameters") or raw.get("rope_scaling") or {})
    theta = float(block.get("rope_theta", raw.get("rope_theta", 10000.0)))
    kind = block.get("rope_type", block.get("type", "default"))
    if float(block.get("partial_rotary_factor", 1.0)) != 1.0:
        raise errors.ConfigError(
            "config.json: partial_rotary_factor other than 1 is not supported", param="partial_rotary_factor"
        )
    if kind == "default":
        return theta, None
    if kind == "linear":
        return theta, RopeScaling("linear", float(block["factor"]))
    if kind == "llama3":
        return theta, RopeScaling(
            "llama3", float(block["factor"]), float(block["low_freq_factor"]), float(block["high_freq_factor"]),
            int(block["original_max_position_embeddings"]),
        )  # fmt: skip
    raise errors.ConfigError(
        f"config.json: rope scaling {kind!r} is not supported; supported are default, linear, llama3",
        param="rope_scaling",
    )


def _windows(raw: Mapping[str, Any], architecture: str) -> tuple[int | None, ...]:
    layers = int(raw["num_hidden_layers"])
    window = raw.get("sliding_window")
    if architecture == "LlamaForCausalLM" or window is None:
        return ()
    if architecture == "MistralForCausalLM":
        return (int(window),) * layers
    if not raw.get("use_sliding_window", False):
        return ()
    first = int(raw.get("max_window_layers", 28))
    kinds = raw.get("layer_types") or ["sliding_attention" if i >= first else "full_attention" for i in range(layers)]
    return tuple(int(window) if kind == "sliding_attention" else None for kind in kinds)
