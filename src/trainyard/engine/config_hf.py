"""Writing a `ModelConfig` back as the `config.json` that transformers reads. Free of torch."""

from typing import Any

from trainyard.engine.config import ARCHITECTURES, ModelConfig


def write(cfg: ModelConfig, dtype: str) -> dict[str, Any]:
    """Name every field as transformers 5 does, `rope_theta` also where version 4 looks for it."""
    eos = list(cfg.eos_token_ids)
    fields: dict[str, Any] = {
        "architectures": [cfg.architecture],
        "model_type": ARCHITECTURES[cfg.architecture],
        "dtype": dtype,
        "vocab_size": cfg.vocab_size,
        "hidden_size": cfg.hidden_size,
        "intermediate_size": cfg.intermediate_size,
        "num_hidden_layers": cfg.layers,
        "num_attention_heads": cfg.heads,
        "num_key_value_heads": cfg.kv_heads,
        "head_dim": cfg.head_dim,
        "max_position_embeddings": cfg.max_positions,
        "rms_norm_eps": cfg.rms_eps,
        "hidden_act": "silu",
        "attention_dropout": 0.0,
        "tie_word_embeddings": cfg.tied_head,
        "rope_theta": cfg.rope_theta,
        "rope_parameters": _rope(cfg),
        "bos_token_id": cfg.bos_token_id,
        "eos_token_id": eos[0] if len(eos) == 1 else eos or None,
        "pad_token_id": cfg.pad_token_id,
    }
    return fields | _biases(cfg) | _windows(cfg)


def _rope(cfg: ModelConfig) -> dict[str, Any]:
    scaling = cfg.rope_scaling
    block: dict[str, Any] = {"rope_theta": cfg.rope_theta, "rope_type": scaling.kind if scaling else "default"}
    if scaling:
        block["factor"] = scaling.factor
    if scaling and scaling.kind == "llama3":
        block["low_freq_factor"] = scaling.low_factor
        block["high_freq_factor"] = scaling.high_factor
        block["original_max_position_embeddings"] = scaling.original_positions
    return block


def _biases(cfg: ModelConfig) -> dict[str, Any]:
    if cfg.architecture == "LlamaForCausalLM":
        return {"attention_bias": cfg.qkv_bias, "mlp_bias": cfg.mlp_bias}
    if cfg.architecture == "Qwen3ForCausalLM":
        return {"attention_bias": cfg.qkv_bias}
    return {}


def _windows(cfg: ModelConfig) -> dict[str, Any]:
    found = [w for w in cfg.windows if w is not None]
    if cfg.architecture == "LlamaForCausalLM":
        return {}
    if cfg.architecture == "MistralForCausalLM":
        return {"sliding_window": found[0] if found else None}
    kinds = ["full_attention" if cfg.window(i) is None else "sliding_attention" for i in range(cfg.layers)]
    return {"use_sliding_window": bool(found), "sliding_window": found[0] if found else None, "layer_types": kinds}
