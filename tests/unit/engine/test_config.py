import json
import math
from pathlib import Path
from typing import Any

import pytest

from trainyard.core import errors
from trainyard.engine import config_hf
from trainyard.engine.config import ModelConfig, RopeScaling

BASE: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 100,
    "max_position_embeddings": 128,
}


def read(**changes: Any) -> ModelConfig:
    return ModelConfig.from_hf(BASE | changes)


def test_what_is_left_out_has_transformers_defaults() -> None:
    cfg = read()
    assert (cfg.kv_heads, cfg.head_dim, cfg.rope_theta, cfg.rms_eps, cfg.tied_head) == (4, 8, 10000.0, 1e-6, False)


@pytest.mark.parametrize(
    ("changes", "field", "expected"),
    [
        ({"rope_theta": 5e5}, "rope_theta", 5e5),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}, "rope_theta", 7.0),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "rope_scaling", RopeScaling("linear", 2.0)),
        ({"attention_bias": True}, "o_bias", True),
        ({"architectures": ["Qwen2ForCausalLM"]}, "qkv_bias", True),
        ({"architectures": ["Qwen2ForCausalLM"]}, "o_bias", False),
        ({"architectures": ["Qwen3ForCausalLM"]}, "qk_norm", True),
        ({"architectures": ["Qwen3ForCausalLM"]}, "head_dim", 128),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": 9}, "windows", (9, 9, 9)),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": None}, "windows", ()),
        ({"architectures": ["Qwen2ForCausalLM"], "sliding_window": 9, "use_sliding_window": False}, "windows", ()),
        (
            {
                "architectures": ["Qwen2ForCausalLM"],
                "sliding_window": 9,
                "use_sliding_window": True,
                "max_window_layers": 2,
            },
            "windows",
            (None, None, 9),
        ),
        ({"eos_token_id": [2, 3]}, "eos_token_ids", (2, 3)),
        ({"eos_token_id": 0}, "eos_token_ids", (0,)),
        ({"architectures": None, "model_type": "qwen3"}, "architecture", "Qwen3ForCausalLM"),
    ],
)
def test_fields_are_read(changes: dict[str, Any], field: str, expected: object) -> None:
    assert getattr(read(**changes), field) == expected


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        (
            {"architectures": ["GPT2LMHeadModel"]},
            "LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, MistralForCausalLM",
        ),
        ({"architectures": None, "model_type": "gemma"}, "gemma"),
        ({"hidden_act": "gelu"}, "silu"),
        ({"attention_dropout": 0.1}, "attention_dropout"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4}}, "yarn"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 4}}, "dynamic"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"logit_scale": 0.5}, "logit_scale"),
        ({"hidden_size": "wide"}, "malformed"),
    ],
)
def test_what_would_change_results_is_refused_by_name(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(errors.ConfigError, match=word):
        read(**changes)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"num_attention_heads": 0}, "malformed"),
        ({"num_attention_heads": -4}, "heads"),
        ({"hidden_size": -5}, "hidden_size"),
        ({"hidden_size": math.inf}, "malformed"),
        ({"vocab_size": 10**13}, "vocab_size"),
        ({"max_position_embeddings": 0}, "max_positions"),
        ({"num_hidden_layers": 0}, "layers"),
        ({"num_hidden_layers": 10**9}, "layers"),
        ({"num_key_value_heads": 3}, "divisor of 4 heads"),
        ({"num_key_value_heads": -1}, "kv_heads"),
        ({"head_dim": 15}, "even"),
        ({"rms_norm_eps": math.nan}, "rms_eps"),
        ({"rope_theta": -1.0}, "rope_theta"),
        ({"rope_scaling": {"type": "linear", "factor": 0}}, "rope_scaling"),
        ({"architectures": ["MistralForCausalLM"], "sliding_window": 0}, "windows"),
        ({"architectures": [[]]}, "architectures"),
    ],
)
def test_sizes_that_no_decoder_has_are_refused_by_name(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(errors.ConfigError, match=word):
        read(**changes)


def test_a_list_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[]", encoding="utf-8")
    with pytest.raises(errors.ConfigError, match="not an object"):
        ModelConfig.from_directory(tmp_path)


def test_a_missing_or_broken_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match=r"config\.json"):
        ModelConfig.from_directory(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(errors.ConfigError, match=r"config\.json"):
        ModelConfig.from_directory(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"attention_bias": True, "mlp_bias": True},
        {"architectures": ["Qwen3ForCausalLM"], "use_sliding_window": True, "sliding_window": 9,
         "max_window_layers": 1},
        {"architectures": ["MistralForCausalLM"], "sliding_window": 9, "tie_word_embeddings": True},
        {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                          "original_max_position_embeddings": 64}, "eos_token_id": [1, 2]},
    ],
)  # fmt: skip
def test_writing_and_reading_gives_the_same_configuration(changes: dict[str, Any], tmp_path: Path) -> None:
    cfg = read(**changes)
    (tmp_path / "config.json").write_text(json.dumps(config_hf.write(cfg, "float32")), encoding="utf-8")
    assert ModelConfig.from_directory(tmp_path) == cfg
