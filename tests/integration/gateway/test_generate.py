"""`/v1/generate` and its siblings: the answer, every parameter at each of its bounds, and every way to be wrong."""

import json
from typing import Any

import pytest

from tests.integration.gateway.gateway import GENERATE, Gateway, Key, MakeKey, unique


@pytest.fixture
def key(new_key: MakeKey) -> Key:
    return new_key()


def test_basic_generation(gateway: Gateway, key: Key) -> None:
    answer = gateway.generate(key)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == ["model", "output", "cached"]
    assert (body["model"], type(body["output"]), body["cached"]) == (gateway.model, str, False)


def test_the_same_seed_gives_the_same_text(gateway: Gateway, key: Key) -> None:
    prompt, asked = unique(), {"seed": 7, "temperature": 1.0, "max_new_tokens": 12, "cache": False}
    first, second = (gateway.generate(key, prompt, **asked).json() for _ in range(2))
    assert first == second
    assert first["cached"] is False


def test_more_tokens_continue_the_same_text(gateway: Gateway, key: Key) -> None:
    prompt = unique()
    short, long = (gateway.generate(key, prompt, temperature=0, max_new_tokens=n).json()["output"] for n in (3, 12))
    assert long.startswith(short.rstrip("\ufffd"))


def test_text_ends_before_a_stop_string(gateway: Gateway, key: Key) -> None:
    asked = {"temperature": 0, "max_new_tokens": 24}
    for prompt in (unique("Once upon a time ") for _ in range(20)):
        whole = gateway.generate(key, prompt, **asked).json()["output"]
        stop = next((one for one in whole[1:] if one.isprintable() and one != "\ufffd"), None)
        if stop is not None:  # a model without training says few characters that are whole
            cut = gateway.generate(key, prompt, **asked, stop=stop).json()["output"]
            assert cut == whole[: whole.index(stop)]
            return
    raise AssertionError("no prompt was answered with text")


# ---------------------------------------------------------------- parameters

GOOD: list[tuple[str, Any]] = [
    ("max_new_tokens", 1),
    ("temperature", 0),
    ("temperature", 2),
    ("top_p", 0.000001),
    ("top_p", 1),
    ("top_k", 0),
    ("top_k", 1),
    ("top_k", 1_000_000),
    ("min_p", 0),
    ("min_p", 1),
    ("presence_penalty", -2),
    ("presence_penalty", 2),
    ("frequency_penalty", -2),
    ("frequency_penalty", 2),
    ("stop", "x"),
    ("stop", "x" * 256),
    ("stop", []),
    ("stop", ["x"] * 8),
    ("seed", 0),
    ("seed", 2**63 - 1),
    ("cache", True),
    ("cache", False),
]
NULLABLE = sorted({name for name, _ in GOOD} | {"model", "json_schema", "regex", "grammar"})
BAD: list[tuple[str, Any]] = [
    ("prompt", ""),
    ("prompt", None),
    ("prompt", 7),
    ("prompt", ["hello"]),
    ("model", ""),
    ("model", 1),
    ("model", "x" * 201),
    ("max_new_tokens", 0),
    ("max_new_tokens", -1),
    ("max_new_tokens", 1_000_001),
    ("max_new_tokens", 1.5),
    ("max_new_tokens", "5"),
    ("max_new_tokens", True),
    ("temperature", -0.01),
    ("temperature", 2.01),
    ("temperature", "hot"),
    ("top_p", 0),
    ("top_p", -0.5),
    ("top_p", 1.01),
    ("top_k", -1),
    ("top_k", 1_000_001),
    ("top_k", 2.5),
    ("min_p", -0.01),
    ("min_p", 1.01),
    ("presence_penalty", -2.01),
    ("presence_penalty", 2.01),
    ("frequency_penalty", -2.01),
    ("frequency_penalty", 2.01),
    ("stop", ""),
    ("stop", "x" * 257),
    ("stop", ["x"] * 9),
    ("stop", [""]),
    ("stop", [3]),
    ("stop", 3),
    ("seed", -1),
    ("seed", 2**63),
    ("seed", 0.5),
    ("json_schema", "object"),
    ("json_schema", []),
    ("regex", ""),
    ("regex", 5),
    ("regex", "x" * 65_537),
    ("grammar", ""),
    ("grammar", "x" * 65_537),
    ("cache", "yes"),
]


def named(case: tuple[str, Any]) -> str:
    return f"{case[0]}={str(case[1])[:20]}"


@pytest.mark.parametrize("case", GOOD, ids=named)
def test_a_value_at_its_bound_is_taken(gateway: Gateway, key: Key, case: tuple[str, Any]) -> None:
    answer = gateway.generate(key, **dict([case]))
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("name", NULLABLE)
def test_null_is_as_left_out(gateway: Gateway, key: Key, name: str) -> None:
    answer = gateway.generate(key, **{name: None})
    assert (answer.status_code, answer.json()["model"]) == (200, gateway.model)


@pytest.mark.parametrize("case", BAD, ids=named)
def test_a_value_beyond_its_bound_is_422_and_names_the_parameter(
    gateway: Gateway, key: Key, case: tuple[str, Any]
) -> None:
    body = {"prompt": "hello", "max_new_tokens": 2, **dict([case])}
    answer = gateway.call("POST", GENERATE, body, key=key.secret)
    assert answer.status_code == 422, answer.text
    error = answer.json()["error"]
    assert (error["code"], error["type"]) == ("validation_error", "invalid_request_error")
    assert error["param"].split("[")[0] == case[0]
    assert error["message"].startswith(case[0])


def test_every_parameter_is_tried_beyond_a_bound(gateway: Gateway) -> None:
    schemas = gateway.request("GET", "/openapi.json").json()["components"]["schemas"]
    assert set(schemas["GenerateRequest"]["properties"]) == {name for name, _ in BAD}


# ---------------------------------------------------------------- other ways to be wrong


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b"", "invalid_json", "empty"),
        (b"{prompt: hi}", "invalid_json", "JSON"),
        (b'{"prompt": "\xff"}', "invalid_json", "UTF-8"),
        (b"[]", "validation_error", "object"),
        (b"{}", "validation_error", "required"),
        (b'{"prompt": "a", "temprature": 1}', "validation_error", "did you mean 'temperature'"),
        (b'{"json_schema": ' * 100_000, "invalid_json", "nested too deeply"),
    ],
)
def test_a_body_that_is_no_request_is_422(gateway: Gateway, key: Key, content: bytes, code: str, says: str) -> None:
    answer = gateway.call("POST", GENERATE, content=content, key=key.secret)
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert says in answer.json()["message"]
    assert set(answer.json()) >= {"error", "code", "message", "detail", "request_id"}
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_an_unknown_model_is_404_and_the_known_ones_are_named(gateway: Gateway, key: Key) -> None:
    answer = gateway.generate(key, model="no/such-model")
    assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")
    assert gateway.model in answer.json()["message"]


def test_a_prompt_that_does_not_fit_the_context_says_both_counts(gateway: Gateway, key: Key) -> None:
    answer = gateway.generate(key, "word " * 40_000)
    assert (answer.status_code, answer.json()["code"]) == (422, "context_length_exceeded")


def test_forms_of_an_answer_exclude_each_other(gateway: Gateway, key: Key) -> None:
    answer = gateway.generate(key, regex="a", grammar='start: "a"')
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_error")


def test_a_body_that_is_too_large_is_413(gateway: Gateway, key: Key) -> None:
    most = gateway.request("GET", "/health").json()["config"]["max_body_bytes"]
    answer = gateway.call("POST", GENERATE, content=b" " * (most + 1), key=key.secret)
    assert (answer.status_code, answer.json()["code"]) == (413, "request_too_large")
    assert answer.json()["data"] == {"max_body_bytes": most}


def test_another_method_is_405_and_names_the_right_one(gateway: Gateway, key: Key) -> None:
    answer = gateway.call("GET", GENERATE, key=key.secret)
    assert (answer.status_code, answer.json()["code"], answer.headers["allow"]) == (405, "method_not_allowed", "POST")


# ---------------------------------------------------------------- the siblings


def test_a_batch_is_answered_prompt_by_prompt(gateway: Gateway, key: Key) -> None:
    prompts = [unique(), unique()]
    body = {"prompts": [*prompts, prompts[0]], "max_new_tokens": 4, "temperature": 0}
    answer = gateway.call("POST", "/v1/generate/batch", body, key=key.secret)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    alone = [gateway.generate(key, prompt, max_new_tokens=4, temperature=0).json()["output"] for prompt in prompts]
    assert [result["output"] for result in results] == [alone[0], alone[1], alone[0]]
    assert [result["error"] for result in results] == [None, None, None]


@pytest.mark.parametrize(("count", "status"), [(0, 422), (1, 200), (64, 200), (65, 422)])
def test_a_batch_has_1_to_64_prompts(gateway: Gateway, key: Key, count: int, status: int) -> None:
    body = {"prompts": ["hello"] * count, "max_new_tokens": 1, "temperature": 0}
    assert gateway.call("POST", "/v1/generate/batch", body, key=key.secret).status_code == status


def test_a_stream_says_the_same_piece_by_piece_and_ends_with_its_counts(gateway: Gateway, key: Key) -> None:
    asked = {"prompt": unique(), "max_new_tokens": 6, "temperature": 0}
    answer = gateway.call("POST", "/v1/stream", asked, key=key.secret)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    events = [json.loads(line) for line in lines[:-1]]
    assert events[-1]["model"] == gateway.model
    assert events[-1]["usage"]["completion_tokens"] <= 6
    whole = gateway.call("POST", GENERATE, asked, key=key.secret).json()["output"]
    assert "".join(event.get("text", "") for event in events) == whole
