"""Bounds and defaults of the wire types, worked out from the reference's tables."""

from typing import Any, get_args

import pydantic
import pytest

from trainyard.engine.types import PROJECTIONS
from trainyard.training import types
from trainyard.training.service.configuring import ALL_PROJECTIONS

GOOD = {"base_model": "org/name"}


def fault(model: type[pydantic.BaseModel], body: Any) -> dict[str, Any]:
    with pytest.raises(pydantic.ValidationError) as caught:
        model.model_validate(body)
    return dict(caught.value.errors()[0])


def test_the_projections_are_those_of_the_engine() -> None:
    assert get_args(types.Projection) == PROJECTIONS == ALL_PROJECTIONS


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("gpu_config", None),
        ("lora_r", 32),
        ("lora_alpha", 64),
        ("lora_dropout", 0.0),
        ("lora_target_modules", None),
        ("optimizer", "adamw"),
        ("learning_rate", 3e-4),
        ("weight_decay", 0.01),
        ("lr_scheduler", None),
        ("warmup_steps", 0),
        ("lr_total_steps", None),
        ("max_seq_length", None),
        ("bf16", None),
        ("gradient_checkpointing", None),
        ("seed", None),
    ],
)
def test_the_default_of_a_configuration_field(field: str, expected: object) -> None:
    assert getattr(types.RunConfig.model_validate(GOOD), field) == expected


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base_model", "a/b"),
        ("base_model", "Qwen/Qwen2.5-0.5B_x"),
        ("gpu_config", "L40S:1"),
        ("gpu_config", "A100-80GB:8"),
        ("lora_r", 1),
        ("lora_r", 512),
        ("lora_alpha", 1),
        ("lora_alpha", 1024),
        ("lora_dropout", 0),
        ("lora_dropout", 0.5),
        ("lora_target_modules", ["q_proj"]),
        ("optimizer", "adamw_8bit"),
        ("learning_rate", 1),
        ("learning_rate", 1e-12),
        ("weight_decay", 0),
        ("weight_decay", 1),
        ("lr_scheduler", "constant_with_warmup"),
        ("warmup_steps", 7),
        ("max_seq_length", 128),
        ("max_seq_length", 131_072),
        ("bf16", True),
        ("gradient_checkpointing", False),
        ("seed", 2**53 - 1),
    ],
)
def test_a_value_on_the_bound_is_taken(field: str, value: object) -> None:
    assert getattr(types.RunConfig.model_validate({**GOOD, field: value}), field) == value


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("base_model", "noslash", "org/name"),
        ("base_model", "../etc/passwd", "org/name"),
        ("base_model", "org/..", "org/name"),
        ("base_model", "org/a..b", "'..'"),
        ("base_model", "/name", "org/name"),
        ("base_model", "org/", "org/name"),
        ("base_model", "a/b/c", "org/name"),
        ("base_model", "org/na me", "org/name"),
        ("base_model", "o/" + "n" * 199, "200"),
        ("base_model", 5, "string"),
        ("gpu_config", "L40S", "TYPE:COUNT"),
        ("gpu_config", "L40S:0", "1 to 8"),
        ("gpu_config", "L40S:9", "1 to 8"),
        ("gpu_config", "RTX:1", "A100-80GB"),
        ("lora_r", 0, "greater than or equal to 1"),
        ("lora_r", 513, "less than or equal to 512"),
        ("lora_r", "32", "integer"),
        ("lora_r", True, "integer"),
        ("lora_alpha", 0, "greater than or equal to 1"),
        ("lora_alpha", 1025, "less than or equal to 1024"),
        ("lora_dropout", -0.1, "greater than or equal to 0"),
        ("lora_dropout", 0.51, "less than or equal to 0.5"),
        ("lora_target_modules", ["lm_head"], "'down_proj'"),
        ("lora_target_modules", [], "at least 1"),
        ("lora_target_modules", ["q_proj", "q_proj"], "once"),
        ("optimizer", "sgd", "'adamw_8bit'"),
        ("learning_rate", 0, "greater than 0"),
        ("learning_rate", 1.01, "less than or equal to 1"),
        ("learning_rate", float("nan"), "finite"),
        ("learning_rate", float("inf"), "finite"),
        ("weight_decay", -1e-9, "greater than or equal to 0"),
        ("weight_decay", 1.5, "less than or equal to 1"),
        ("lr_scheduler", "polynomial", "'constant_with_warmup'"),
        ("warmup_steps", -1, "greater than or equal to 0"),
        ("lr_total_steps", 0, "greater than or equal to 1"),
        ("max_seq_length", 127, "greater than or equal to 128"),
        ("max_seq_length", 131_073, "less than or equal to 131072"),
        ("bf16", "yes", "boolean"),
        ("gradient_checkpointing", 1, "boolean"),
        ("seed", -1, "greater than or equal to 0"),
        ("seed", 2**53, "less than or equal to 9007199254740991"),
    ],
)
def test_a_value_beyond_the_bound_is_refused_with_what_would_be_right(field: str, value: object, says: str) -> None:
    found = fault(types.RunConfig, {**GOOD, field: value})
    assert found["loc"][0] == field
    assert says in found["msg"]


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        ({"lr_scheduler": "cosine"}, "lr_total_steps", "needs lr_total_steps"),
        ({"lr_scheduler": "linear"}, "lr_total_steps", "needs lr_total_steps"),
        ({"lr_total_steps": 9}, "lr_total_steps", "cosine or linear"),
        ({"lr_scheduler": "constant_with_warmup", "lr_total_steps": 9}, "lr_total_steps", "cosine or linear"),
        ({"lr_scheduler": "cosine", "lr_total_steps": 9, "warmup_steps": 9}, "warmup_steps", "less than"),
    ],
)
def test_a_schedule_and_its_length_belong_together(given: dict[str, object], field: str, says: str) -> None:
    found = fault(types.RunConfig, {**GOOD, **given})
    assert found["loc"] == (field,)
    assert says in found["msg"]


def test_a_schedule_with_its_length_is_taken() -> None:
    config = types.RunConfig.model_validate({**GOOD, "lr_scheduler": "cosine", "lr_total_steps": 9, "warmup_steps": 8})
    assert config.lr_total_steps == 9


@pytest.mark.parametrize(
    ("model", "body", "loc", "says"),
    [
        (types.RunConfig, {**GOOD, "lora_rank": 8}, ("lora_rank",), "did you mean lora_r?"),
        (types.RunConfig, {**GOOD, "xyzzy": 8}, ("xyzzy",), "the fields are: base_model"),
        (types.OptimStepRequest, {"lr": 1e-3}, ("lr",), "learning_rate"),
        (types.SampleRequest, {"prompt": "a"}, ("prompt",), "did you mean prompts?"),
        (types.TrainingExample, {"text": "a", "weight": 1}, ("weight",), "text, messages"),
        (types.SaveStateRequest, {"hub_model_id": "a/b"}, ("hub_model_id",), "No hub is configured"),
        (types.SaveStateRequest, {"push_to_hub": True}, ("push_to_hub",), "No hub is configured"),
        (types.Message, {"role": "user", "content": "a", "name": "b"}, ("name",), "role, content"),
    ],
)
def test_a_field_that_does_not_exist_is_named_with_those_that_do(
    model: type[pydantic.BaseModel], body: object, loc: tuple[str, ...], says: str
) -> None:
    found = fault(model, body)
    assert found["loc"] == loc
    assert says in found["msg"]


@pytest.mark.parametrize(
    "field",
    ["old_log_probs", "rewards", "values", "old_values", "advantages", "behavior_log_probs", "reference_model",
     "use_gae", "gamma", "gae_lambda"],
)  # fmt: skip
def test_a_reinforcement_learning_field_is_refused_with_the_losses_there_are(field: str) -> None:
    found = fault(types.ForwardBackwardRequest, {"batch_data": [{"text": "ab"}], field: 1})
    assert found["loc"] == (field,)
    assert "causal_lm or cross_entropy" in found["msg"]


def test_null_is_no_wish() -> None:
    body: dict[str, object] = {
        "batch_data": [{"text": "ab", "messages": None, "chosen": None}],
        "rewards": None,
        "loss_kwargs": {},
    }
    read = types.ForwardBackwardRequest.model_validate(body)
    assert read.batch_data[0].text == "ab"
    assert types.SaveStateRequest.model_validate({"hub_model_id": None, "push_to_hub": False}).push_to_hub is False


@pytest.mark.parametrize(
    ("example", "says"),
    [
        ({}, "Must provide one of"),
        ({"text": None}, "Must provide one of"),
        ({"text": "a", "messages": [{"role": "user", "content": "b"}]}, "only ONE format"),
        ({"text": "a", "prompt": "b"}, "only ONE format"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "Must provide one of: text, messages"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "preference"),
        ({"responses": ["a"], "rewards": [1.0]}, "GRPO"),
        ({"response": "a", "reward": 1.0}, "PPO"),
        ({"text": ""}, "at least 1 character"),
        ({"text": "a" * 32_769}, "at most 32768"),
        ({"text": "\ud800"}, "unicode string"),
        ({"text": 7}, "string"),
        ({"messages": []}, "at least 1"),
        ({"messages": [{"role": "user", "content": "a"}] * 51}, "at most 50"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "'assistant'"),
        ({"messages": [{"role": "user"}]}, "required"),
        ({"messages": [{"role": "user", "content": ""}]}, "at least 1 character"),
        ("text", "dictionary"),
    ],
)
def test_an_example_in_no_usable_format_is_refused(example: object, says: str) -> None:
    assert says in fault(types.TrainingExample, example)["msg"]


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        ({"batch_data": []}, "batch_data", "at least 1"),
        ({"batch_data": [{"text": "ab"}] * 129}, "batch_data", "at most 128"),
        ({"loss_fn": "dpo"}, "loss_fn", "'causal_lm' or 'cross_entropy'"),
        ({"loss_kwargs": {"beta": 0.1}}, "loss_kwargs", "take no options"),
        ({"request_id": ""}, "request_id", "at least 1"),
        ({"accumulate": "true"}, "accumulate", "boolean"),
    ],
)
def test_a_batch_beyond_its_bounds_is_refused(given: dict[str, object], field: str, says: str) -> None:
    found = fault(types.ForwardBackwardRequest, {"batch_data": [{"text": "ab"}], **given})
    assert found["loc"][0] == field
    assert says in found["msg"]


@pytest.mark.parametrize(
    ("given", "field", "says"),
    [
        ({"prompts": []}, "prompts", "at least 1"),
        ({"prompts": ["a"] * 129}, "prompts", "at most 128"),
        ({"prompts": [""]}, "prompts", "at least 1 character"),
        ({"prompts": "a"}, "prompts", "list"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"temperature": -0.1}, "temperature", "greater than or equal to 0"),
        ({"temperature": 2.1}, "temperature", "less than or equal to 2"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"top_p": 1.1}, "top_p", "less than or equal to 1"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
    ],
)
def test_a_sampling_request_beyond_its_bounds_is_refused(given: dict[str, object], field: str, says: str) -> None:
    found = fault(types.SampleRequest, {"prompts": ["a"], **given})
    assert found["loc"][0] == field
    assert says in found["msg"]


def test_sampling_defaults_are_those_of_the_guide() -> None:
    read = types.SampleRequest.model_validate({"prompts": ["a"]})
    assert (read.max_tokens, read.temperature, read.top_p, read.return_logprobs) == (512, 0.7, 0.9, False)


@pytest.mark.parametrize("name", [name for name in types.__all__ if name not in ("Projection", "RunState")])
def test_every_field_of_the_wire_says_what_it_means(name: str) -> None:
    fields = getattr(types, name).model_fields
    assert [field for field, facts in fields.items() if not facts.description] == []
