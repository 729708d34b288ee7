"""Whole workflows over HTTP, as seed 1's guide lists them; each in process and against a live server."""

import io
import math
import tarfile
from typing import Any

import pytest

from tests.integration.conftest import OpenRun, Yard

Batch = list[dict[str, Any]]

ALL_PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
UNKNOWN_RUN = "run_0000000000000000"


# ---------------------------------------------------------------- what must work


def test_a_complete_training_loop(
    yard: Yard, open_run: OpenRun, sample_batch: Batch, sample_prompts: list[str]
) -> None:
    run_id = open_run()
    first = yard.post(f"/runs/{run_id}/forward_backward", {"batch_data": sample_batch})
    assert math.isfinite(first["loss"])
    assert first["loss"] > 0
    assert yard.post(f"/runs/{run_id}/optim_step")["step"] == 1
    again = yard.post(f"/runs/{run_id}/forward_backward", {"batch_data": sample_batch})
    assert again["loss"] < first["loss"]
    sampled = yard.post(f"/runs/{run_id}/sample", {"prompts": sample_prompts, "max_tokens": 8})
    assert len(sampled["outputs"]) == len(sample_prompts)
    saved = yard.post(f"/runs/{run_id}/save_state", {"mode": "adapter"})
    assert saved["step"] == 1
    assert yard.post(f"/runs/{run_id}/complete")["status"] == "completed"


def test_gradients_accumulate_over_batches_and_are_replaced_otherwise(
    yard: Yard, open_run: OpenRun, sample_batch: Batch
) -> None:
    run_id = open_run()

    def learn(batch: Batch, *, accumulate: bool) -> float:
        answer = yard.post(f"/runs/{run_id}/forward_backward", {"batch_data": batch, "accumulate": accumulate})
        return float(answer["metrics"]["weighted_tokens"])

    def pending() -> float:
        return float(yard.get(f"/runs/{run_id}/status")["pending_tokens"])

    one, two = learn(sample_batch[:1], accumulate=False), learn(sample_batch[1:], accumulate=True)
    assert pending() == one + two
    assert learn(sample_batch[:1], accumulate=False) == one
    assert pending() == one
    yard.post(f"/runs/{run_id}/optim_step")
    assert pending() == 0


def test_metrics_have_one_entry_per_step_in_order(yard: Yard, open_run: OpenRun, sample_batch: Batch) -> None:
    run_id = open_run(learning_rate=1e-3)
    losses = []
    for _ in range(3):
        losses.append(yard.post(f"/runs/{run_id}/forward_backward", {"batch_data": sample_batch})["loss"])
        yard.post(f"/runs/{run_id}/optim_step")
    found = yard.get(f"/runs/{run_id}/metrics")
    assert found["step"] == 3
    assert [entry["step"] for entry in found["metrics"]] == [1, 2, 3]
    assert [entry["loss"] for entry in found["metrics"]] == pytest.approx(losses)
    assert [entry["learning_rate"] for entry in found["metrics"]] == pytest.approx([1e-3] * 3)
    times = [entry["timestamp"] for entry in found["metrics"]]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("mode", "files"),
    [
        ("adapter", {"adapter_config.json", "adapter_model.safetensors"}),
        ("merged", {"config.json", "model.safetensors"}),
    ],
)
def test_both_forms_are_saved_and_can_be_downloaded(
    yard: Yard, open_run: OpenRun, sample_batch: Batch, mode: str, files: set[str]
) -> None:
    run_id = open_run()
    yard.post(f"/runs/{run_id}/forward_backward", {"batch_data": sample_batch})
    yard.post(f"/runs/{run_id}/optim_step")
    saved = yard.post(f"/runs/{run_id}/save_state", {"mode": mode})
    assert set(saved["manifest"]) >= files
    listed = yard.get(f"/runs/{run_id}/artifacts")
    assert [(one["id"], one["mode"]) for one in listed] == [(saved["artifact_id"], mode)]
    sent = yard.request("GET", listed[0]["download_url"])
    assert sent.status_code == 200, sent.text  # a signed link needs no key
    with tarfile.open(fileobj=io.BytesIO(sent.content)) as archive:
        assert {name.partition("/")[2] for name in archive.getnames()} == set(saved["manifest"])


def test_runs_of_one_user_do_not_touch_each_other(yard: Yard, open_run: OpenRun, sample_batch: Batch) -> None:
    trained, untouched = open_run(), open_run()
    foreign = open_run(yard.other_key)
    yard.post(f"/runs/{trained}/forward_backward", {"batch_data": sample_batch})
    yard.post(f"/runs/{trained}/optim_step")
    assert yard.get(f"/runs/{trained}/status")["current_step"] == 1
    assert yard.get(f"/runs/{untouched}/status")["current_step"] == 0
    mine = [run["run_id"] for run in yard.get("/runs")["runs"]]
    assert mine.index(untouched) < mine.index(trained)  # newest first
    assert foreign not in mine


def test_chats_are_learned_by_the_assistants_tokens_alone(
    yard: Yard, open_run: OpenRun, sample_messages_batch: Batch
) -> None:
    run_id = open_run()
    answer = yard.post(f"/runs/{run_id}/forward_backward", {"batch_data": sample_messages_batch})
    assert 0 < answer["metrics"]["weighted_tokens"] < answer["metrics"]["tokens"]
    rendered = yard.post(f"/runs/{run_id}/apply_chat_template", sample_messages_batch[0])
    assert "Hello!" in rendered["text"]
    assert yard.post(f"/runs/{run_id}/detokenize", {"token_ids": rendered["token_ids"]})["text"] == rendered["text"]


@pytest.mark.parametrize(
    "config",
    [
        {"lora_r": 1, "lora_alpha": 1},
        {"lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.1},
        {"lora_r": 8, "lora_target_modules": ["q_proj", "v_proj"]},
        {"optimizer": "adamw", "weight_decay": 0.0, "lr_scheduler": "cosine", "warmup_steps": 1, "lr_total_steps": 10},
    ],
)
def test_custom_lora_configurations_are_honoured(
    yard: Yard, open_run: OpenRun, sample_batch: Batch, config: dict[str, Any]
) -> None:
    run_id = open_run(**config)
    status = yard.get(f"/runs/{run_id}/status")
    assert {name: status["config"][name] for name in config} == config
    assert status["config"]["lora_target_modules"] == config.get("lora_target_modules", ALL_PROJECTIONS)
    assert yard.get(f"/runs/{run_id}/model_info")["trainable_parameters"] > 0
    yard.post(f"/runs/{run_id}/forward_backward", {"batch_data": sample_batch})
    assert yard.post(f"/runs/{run_id}/optim_step")["step"] == 1


@pytest.mark.parametrize(
    "drawing",
    [
        {"temperature": 0.0},
        {"temperature": 1.5, "seed": 3},
        {"temperature": 1.0, "top_p": 0.5, "seed": 3},
        {"temperature": 0.7, "return_logprobs": True, "seed": 3},
    ],
)
def test_sampling_parameters_are_honoured(
    yard: Yard, open_run: OpenRun, sample_prompts: list[str], drawing: dict[str, Any]
) -> None:
    run_id = open_run()
    body = {"prompts": sample_prompts, "max_tokens": 5, **drawing}
    first, second = yard.post(f"/runs/{run_id}/sample", body), yard.post(f"/runs/{run_id}/sample", body)
    assert {**first, "logprobs": None} == {**second, "logprobs": None}  # greedy or seeded: the same again
    assert all(1 <= len(ids) <= 5 for ids in first["token_ids"])
    if drawing.get("return_logprobs"):
        assert [len(row) for row in first["logprobs"]] == [len(ids) for ids in first["token_ids"]]
        assert all(value <= 0 for row in first["logprobs"] for value in row)
        for row, again in zip(first["logprobs"], second["logprobs"], strict=True):
            assert again == pytest.approx(row, abs=1e-4)  # sums are rounded by which rows shared a batch
    else:
        assert first["logprobs"] is None


def test_a_trained_run_is_a_model_of_the_chat_interface(yard: Yard, open_run: OpenRun, sample_batch: Batch) -> None:
    run_id = open_run()
    yard.post(f"/runs/{run_id}/forward_backward", {"batch_data": sample_batch})
    yard.post(f"/runs/{run_id}/optim_step")
    question = {"model": run_id, "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 4}
    answer = yard.post("/v1/chat/completions", question)
    assert answer["model"] == run_id
    assert answer["usage"]["completion_tokens"] <= 4
    assert run_id in [model["id"] for model in yard.get("/v1/models")["data"]]


# ---------------------------------------------------------------- what must be refused

VERBS = [
    ("GET", "status", None),
    ("GET", "metrics", None),
    ("GET", "artifacts", None),
    ("POST", "forward_backward", {"batch_data": [{"text": "a b c"}]}),
    ("POST", "optim_step", {}),
    ("POST", "sample", {"prompts": ["a"], "max_tokens": 1}),
    ("POST", "save_state", {}),
    ("POST", "tokenize", {"text": "a"}),
    ("POST", "complete", None),
]


@pytest.mark.parametrize(("method", "verb", "body"), VERBS)
def test_a_run_that_does_not_exist_is_404(yard: Yard, method: str, verb: str, body: Any) -> None:
    answer = yard.call(method, f"/runs/{UNKNOWN_RUN}/{verb}", body)
    assert answer.status_code == 404
    assert UNKNOWN_RUN in answer.json()["error"]


@pytest.mark.parametrize(("method", "verb", "body"), VERBS)
def test_the_run_of_somebody_else_is_403(yard: Yard, open_run: OpenRun, method: str, verb: str, body: Any) -> None:
    run_id = open_run()
    assert yard.call(method, f"/runs/{run_id}/{verb}", body, key=yard.other_key).status_code == 403


@pytest.mark.parametrize("key", ["sk-wrong", "not a key at all", "sk-" + "x" * 43])
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/runs"), ("POST", "/runs"), ("GET", f"/runs/{UNKNOWN_RUN}/status")]
)
def test_an_invalid_key_is_401(yard: Yard, method: str, path: str, key: str) -> None:
    answer = yard.call(method, path, key=key)
    assert answer.status_code == 401
    assert "invalid api key" in answer.text.lower()


def test_no_key_is_401_and_says_which_header(yard: Yard) -> None:
    answer = yard.request("GET", "/runs")
    assert answer.status_code == 401
    assert "authorization" in answer.text.lower()


def test_a_model_that_is_not_offered_is_400_and_the_offered_ones_are_named(yard: Yard) -> None:
    answer = yard.call("POST", "/runs", {"base_model": "nobody/nothing"})
    assert answer.status_code == 400
    assert yard.model in answer.json()["error"]


def test_a_step_without_gradients_is_409(yard: Yard, open_run: OpenRun, sample_batch: Batch) -> None:
    run_id = open_run()
    assert yard.call("POST", f"/runs/{run_id}/optim_step").status_code == 409
    yard.post(f"/runs/{run_id}/forward_backward", {"batch_data": sample_batch})
    yard.post(f"/runs/{run_id}/optim_step")
    answer = yard.call("POST", f"/runs/{run_id}/optim_step")  # the step before used them up
    assert (answer.status_code, answer.json()["code"]) == (409, "no_gradients")


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        ([], "batch_data"),
        ([{}], "must provide one of"),
        ([{"text": "a", "messages": [{"role": "user", "content": "a"}]}], "only one format"),
        ([{"text": ""}], "text"),
        ([{"text": "x" * 32_769}], "text"),
        ([{"messages": [{"role": "robot", "content": "a"}]}], "role"),
        ([{"messages": [{"role": "user"}]}], "content"),
        ([{"input": "a", "output": "b"}], "must provide one of"),
        ("not a list", "batch_data"),
    ],
)
def test_an_invalid_batch_is_refused_and_says_why(yard: Yard, open_run: OpenRun, batch: Any, says: str) -> None:
    run_id = open_run()
    answer = yard.call("POST", f"/runs/{run_id}/forward_backward", {"batch_data": batch})
    assert answer.status_code == 422
    assert says in answer.text.lower()


@pytest.mark.parametrize("raw", ["", "{", "[]", "null", '"text"', '{"base_model": 7}', "\x00\x01"])
def test_a_malformed_request_is_422_and_the_server_goes_on(yard: Yard, raw: str) -> None:
    headers = {"Authorization": f"Bearer {yard.key}", "Content-Type": "application/json"}
    answer = yard.request("POST", "/runs", headers=headers, content=raw.encode())
    assert answer.status_code == 422, answer.text
    assert yard.get("/models")["models"]
