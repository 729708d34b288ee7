"""The routes of serving in process, over a scripted engine."""

import asyncio
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.serving import malformed
from tests.unit.serving.byte_model import END_OF_TURN, VOCABULARY
from tests.unit.serving.yard import ANSWER, CONTEXT, MODEL, RUN, Yard, events
from trainyard.core import errors
from trainyard.core.catalog import ModelRegistry
from trainyard.core.clock import SystemClock
from trainyard.engine import calls, types
from trainyard.testing import run_specs

CHAT = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}

NOTHING_CACHED = {"prompt_tokens_details": {"cached_tokens": 0}}


def asked(yard: Yard) -> list[Any]:
    return [call.request for call in yard.engine.seen if isinstance(call, calls.Generate)]


def run_spec(directory: Path) -> types.RunSpec:
    return run_specs.make(RUN.run_id, directory)


async def test_generate_answers_exactly_the_three_fields(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/generate", json={"prompt": "hi", "model": "yard/alias", "max_new_tokens": 30})
    assert answer.json() == {"model": MODEL, "output": ANSWER, "cached": False}


async def test_generate_takes_the_default_model_and_every_parameter(yard: Yard, client: httpx.AsyncClient) -> None:
    body = {"prompt": "abc", "max_new_tokens": 7, "temperature": 0, "top_p": 0.5, "top_k": 3, "stop": ["x"], "seed": 5}
    assert (await client.post("/v1/generate", json=body)).json()["output"] == "Grüße"
    sampling = asked(yard)[0].sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p, sampling.top_k) == (7, 0, 0.5, 3)
    assert (sampling.seed, sampling.stop_token_ids) == (5, (END_OF_TURN,))


@pytest.mark.parametrize(
    ("stop", "output"), [("yard", "Grüße, "), (["!", ", "], "Grüße"), (["nothing"], ANSWER), (None, ANSWER)]
)
async def test_text_ends_before_the_first_stop_string(client: httpx.AsyncClient, stop: Any, output: str) -> None:
    answer = await client.post("/v1/generate", json={"prompt": "hi", "stop": stop})
    assert answer.json()["output"] == output


async def test_a_default_length_shrinks_to_the_context_but_a_wish_does_not(
    yard: Yard, client: httpx.AsyncClient
) -> None:
    assert (await client.post("/v1/generate", json={"prompt": "x" * 60})).json()["output"] == "Grü"[:3]
    assert asked(yard)[0].sampling.max_tokens == CONTEXT - 60
    refused = await client.post("/v1/generate", json={"prompt": "x" * 60, "max_new_tokens": 5})
    assert refused.status_code == 422
    assert refused.json()["code"] == "context_length_exceeded"
    assert refused.json()["data"] == {"context_tokens": 64, "prompt_tokens": 60, "max_tokens": 5}


async def test_a_chat_is_answered_in_the_shape_of_openai(client: httpx.AsyncClient) -> None:
    body = (await client.post("/v1/chat/completions", json=CHAT)).json()
    assert body.pop("id").startswith("chatcmpl-")
    assert isinstance(body.pop("created"), int)
    assert body == {
        "object": "chat.completion",
        "model": MODEL,
        "system_fingerprint": "base",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": ANSWER},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        # <|im_start|>user\nhi<|im_end|><|im_start|>assistant\n is 1+5+2+1+1+10 tokens; 14 bytes and the end of turn
        "usage": {"prompt_tokens": 20, "completion_tokens": 15, "total_tokens": 35, **NOTHING_CACHED},
    }


async def test_choices_run_side_by_side_with_seeds_that_count_up(yard: Yard, client: httpx.AsyncClient) -> None:
    body = (await client.post("/v1/chat/completions", json={**CHAT, "n": 3, "seed": 10})).json()
    assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]
    assert sorted(request.sampling.seed for request in asked(yard)) == [10, 11, 12]
    assert body["usage"] == {"prompt_tokens": 20, "completion_tokens": 45, "total_tokens": 65, **NOTHING_CACHED}


async def test_logprobs_of_a_chat_name_tokens_with_their_bytes(client: httpx.AsyncClient) -> None:
    body = (await client.post("/v1/chat/completions", json={**CHAT, "logprobs": True, "top_logprobs": 2})).json()
    tokens = body["choices"][0]["logprobs"]["content"]
    assert bytes(byte for token in tokens for byte in token["bytes"]).decode() == ANSWER
    assert tokens[0]["token"] == "G"
    assert math.isclose(tokens[0]["logprob"], -math.log(VOCABULARY), rel_tol=1e-6)
    assert len(tokens[0]["top_logprobs"]) == 2


async def test_logprobs_of_a_completion_have_the_older_shape(client: httpx.AsyncClient) -> None:
    body = {"model": MODEL, "prompt": "hi", "max_tokens": 5, "logprobs": 1}
    choice = (await client.post("/v1/completions", json=body)).json()["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("Grü\ufffd", "length")
    assert choice["logprobs"]["tokens"][:2] == ["G", "r"]
    assert choice["logprobs"]["text_offset"] == [0, 1, 2, 3, 4]
    assert len(choice["logprobs"]["token_logprobs"]) == len(choice["logprobs"]["top_logprobs"]) == 5


@pytest.mark.parametrize(
    ("prompt", "lengths"),
    [("abc", [3]), (["a", "bcd"], [1, 3]), ([4, 5, 6], [3]), ([[4], [5, 6]], [1, 2])],
    ids=["text", "texts", "ids", "lists of ids"],
)
async def test_completions_take_every_form_of_prompt(
    yard: Yard, client: httpx.AsyncClient, prompt: Any, lengths: list[int]
) -> None:
    body = {"model": MODEL, "prompt": prompt, "max_tokens": 2, "n": 2}
    answer = (await client.post("/v1/completions", json=body)).json()
    assert [choice["text"] for choice in answer["choices"]] == ["Gr"] * 2 * len(lengths)
    assert sorted(len(request.prompt) // 4 for request in asked(yard)) == sorted(lengths * 2)
    assert answer["usage"]["prompt_tokens"] == sum(lengths)


async def test_a_chat_stream_is_role_then_text_then_reason_then_usage(client: httpx.AsyncClient) -> None:
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        seen = [event async for event in events(answer)]
    assert seen.pop() == "[DONE]"
    assert seen[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in seen[:-1]) == ANSWER
    assert seen[-2]["choices"][0] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    assert seen[-1]["choices"] == []
    assert seen[-1]["usage"] == {"prompt_tokens": 20, "completion_tokens": 15, "total_tokens": 35, **NOTHING_CACHED}
    assert all(event["usage"] is None for event in seen[:-1])
    assert len({event["id"] for event in seen}) == 1


async def test_a_completion_stream_says_no_usage_unasked(client: httpx.AsyncClient) -> None:
    body = {"model": MODEL, "prompt": ["a", "b"], "max_tokens": 30, "stream": True, "logprobs": 0}
    async with client.stream("POST", "/v1/completions", json=body) as answer:
        seen = [event async for event in events(answer)]
    assert seen.pop() == "[DONE]"
    for index in (0, 1):
        mine = [event["choices"][0] for event in seen if event["choices"][0]["index"] == index]
        assert "".join(choice["text"] for choice in mine) == ANSWER
        assert [choice["finish_reason"] for choice in mine if choice["finish_reason"]] == ["stop"]
    assert not any("usage" in event for event in seen)


async def test_an_error_before_the_first_token_has_its_status_even_for_a_stream(
    yard: Yard, client: httpx.AsyncClient
) -> None:
    yard.engine.fail_next(errors.Unavailable("away", code="engine_restarting", retry_after_s=2.0))  # info
    first = await client.post("/v1/chat/completions", json={**CHAT, "stream": True})
    await client.post("/v1/chat/completions", json=CHAT)
    yard.engine.fail_next(errors.Unavailable("away", code="engine_restarting", retry_after_s=2.0))  # generate
    second = await client.post("/v1/chat/completions", json={**CHAT, "stream": True})
    for answer in (first, second):
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert answer.json()["error"]["code"] == "engine_restarting"


async def test_an_engine_that_dies_mid_stream_is_an_error_event(yard: Yard, client: httpx.AsyncClient) -> None:
    yard.engine.die_after_tokens(4)
    async with client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
        seen = [event async for event in events(answer)]
    assert answer.status_code == 200
    assert seen[-1]["error"]["type"] == "server_error"
    assert "[DONE]" not in seen


async def test_a_client_that_leaves_frees_the_engine(yard: Yard) -> None:
    yard.engine = yard.new_engine("x" * 40, token_s=0.02)
    app = yard.app()
    client = await yard.client(app=app)
    key = client.headers["authorization"]
    for body in ({**CHAT, "stream": True}, CHAT):
        await leave_after(app, "/v1/chat/completions", body, key, 0.15)
        assert (await yard.engine.stats()).active_streams == 0
    metrics = (await client.get("/metrics")).text
    assert f'trainyard_llm_requests_total{{model="{MODEL}",outcome="cancelled"}} 2.0' in metrics


async def leave_after(
    app: Any, path: str, body: dict[str, Any], key: str, after_s: float, headers: dict[str, str] | None = None
) -> None:
    """Send a request over plain ASGI and disconnect in the middle of the answer."""
    said = iter([{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}])

    async def receive() -> dict[str, Any]:
        for message in said:
            return message
        await asyncio.sleep(after_s)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        return None

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [
            (b"authorization", key.encode()),
            (b"content-type", b"application/json"),
            *[(name.encode(), value.encode()) for name, value in (headers or {}).items()],
        ],
    }
    await app(scope, receive, send)


async def test_a_request_over_its_time_is_504(yard: Yard) -> None:
    yard.engine = yard.new_engine("x" * 40, latency_s=0.5)
    client = await yard.client(app=yard.app(timeout_s=0.05))
    answer = await client.post("/v1/chat/completions", json=CHAT)
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "deadline_exceeded")


async def test_an_answer_over_its_time_ends_in_an_error_event(yard: Yard) -> None:
    yard.engine = yard.new_engine("x" * 40, token_s=0.03)
    client = await yard.client(app=yard.app(timeout_s=0.3, clock=SystemClock()))
    async with client.stream("POST", "/v1/chat/completions", json={**CHAT, "stream": True}) as answer:
        seen = [event async for event in events(answer)]
    assert answer.status_code == 200
    assert seen[-1]["error"]["code"] == "deadline_exceeded"
    assert (await yard.engine.stats()).active_streams == 0


async def test_a_run_is_a_model_for_its_owner_alone(yard: Yard, client: httpx.AsyncClient, tmp_path: Path) -> None:
    body = {**CHAT, "model": RUN.name}
    await yard.engine.open_run(run_spec(tmp_path / "state"))
    mine = (await client.post("/v1/chat/completions", json=body)).json()
    assert (mine["model"], mine["system_fingerprint"]) == (RUN.name, f"{RUN.name}@0")
    assert (asked(yard)[0].run_id, asked(yard)[0].adapter_dir) == (RUN.run_id, None)
    stranger = await yard.client("bob")
    answer = await stranger.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert RUN.name in answer.json()["error"]["message"].split("available:")[0]
    assert RUN.name not in answer.json()["error"]["message"].split("available:")[1]


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/v1/generate", {"prompt": "hi", "max_new_tokens": 3}),
        ("/v1/completions", {"prompt": "hi", "max_tokens": 3}),
        ("/v1/chat/completions", {"messages": CHAT["messages"], "max_tokens": 3}),
        ("/v1/chat/completions", {"messages": CHAT["messages"], "max_tokens": 3, "model": None}),
    ],
)
async def test_a_request_that_names_no_model_gets_the_default(
    client: httpx.AsyncClient, route: str, body: dict[str, Any]
) -> None:
    answer = await client.post(route, json=body)
    assert (answer.status_code, answer.json()["model"]) == (200, MODEL)


async def test_models_are_listed_with_what_openai_says_and_more(yard: Yard, client: httpx.AsyncClient) -> None:
    body = (await client.get("/v1/models")).json()
    assert body["object"] == "list"
    by_id = {card["id"]: card for card in body["data"]}
    assert list(by_id) == [MODEL, "yard/plain", "yard/off", "yard/parrot", RUN.name]
    assert by_id[RUN.name] == {
        "id": RUN.name,
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "ann",
        "status": "available",
        "backend": "local",
        "capabilities": ["generate", "chat"],
        "aliases": [],
        "root": MODEL,
        "default": False,
        "step": 3,
    }
    assert [card["id"] for card in body["data"] if card["default"]] == [MODEL]
    assert (by_id["yard/off"]["status"], by_id["yard/parrot"]["backend"]) == ("off", "fake")
    stranger = await (await yard.client("bob")).get("/v1/models")
    assert RUN.name not in stranger.text


async def test_a_run_whose_base_model_left_the_catalog_is_not_listed(yard: Yard, client: httpx.AsyncClient) -> None:
    yard.adapters.adapters = [replace(RUN, name="run_00000000000000bb", base_model="yard/gone")]
    body = (await client.get("/v1/models")).json()
    assert [card["id"] for card in body["data"]] == [MODEL, "yard/plain", "yard/off", "yard/parrot"]
    answer = await client.post("/v1/generate", json={"prompt": "a", "model": "run_00000000000000bb"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize(("name", "found"), [("yard/alias", MODEL), (MODEL, MODEL), (RUN.name, RUN.name)])
async def test_one_model_is_shown_by_any_of_its_names(client: httpx.AsyncClient, name: str, found: str) -> None:
    assert (await client.get(f"/v1/models/{name}")).json()["id"] == found


@pytest.mark.parametrize("name", ["gpt-9", "run_ffffffffffffffff", "../secret"])
async def test_an_unknown_model_is_404_with_the_names(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.get(f"/v1/models/{name}")
    assert answer.status_code == 404
    if name != "../secret":  # the client resolves the dots itself
        assert MODEL in answer.json()["error"]["message"]


async def test_an_unknown_model_of_somebody_with_many_runs_is_a_short_message(
    yard: Yard, client: httpx.AsyncClient
) -> None:
    yard.adapters.adapters = [replace(RUN, name=f"run_{number:016x}") for number in range(30)]
    message = (await client.get("/v1/models/gpt-9")).json()["error"]["message"]
    assert message.endswith("run_000000000000000f and 14 more (GET /v1/models)")  # 4 of the catalog and 16 runs


async def test_a_model_that_is_off_says_so_and_what_is_on(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/chat/completions", json={**CHAT, "model": "yard/off"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "model_off")
    assert "available: yard/bytes, yard/plain, yard/parrot" in answer.json()["error"]["message"]


async def test_a_chat_with_a_base_model_without_template_is_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/chat/completions", json={**CHAT, "model": "yard/plain"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "chat_template_missing")
    assert "plain prompt" in answer.json()["error"]["message"]


async def test_a_chat_longer_than_the_context_says_both_counts(client: httpx.AsyncClient) -> None:
    body = {**CHAT, "messages": [{"role": "user", "content": "x" * 100}]}
    answer = await client.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "64 tokens" in answer.json()["error"]["message"]
    assert "119" in answer.json()["error"]["message"]


async def test_text_parts_are_joined_and_developer_means_system(yard: Yard, client: httpx.AsyncClient) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = {"model": MODEL, "messages": [{"role": "developer", "content": "s"}, {"role": "user", "content": parts}]}
    await client.post("/v1/chat/completions", json={**body, "max_tokens": 1})
    plain = [{"role": "system", "content": "s"}, {"role": "user", "content": "ab"}]
    assert len(asked(yard)[0].prompt) // 4 == len(yard.tokenizer.encode_chat(plain, True))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/generate", {"prompt": "one two three", "model": "yard/parrot"}),
        ("/v1/completions", {"prompt": "one two three", "model": "yard/parrot"}),
        ("/v1/chat/completions", {**CHAT, "model": "yard/parrot"}),
    ],
)
async def test_the_fake_backend_says_words_back(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    answer = await client.post(path, json=body)
    assert answer.status_code == 200
    assert ("one two three" in answer.text) or ("hi" in answer.text)


async def test_a_key_without_the_scope_is_refused(yard: Yard) -> None:
    client = await yard.client("eve", scopes=("train",))
    for answer in (await client.post("/v1/chat/completions", json=CHAT), await client.get("/v1/models")):
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "missing_scope")


@pytest.mark.parametrize("case", malformed.table(MODEL), ids=lambda case: case.name.replace(" ", "_"))
async def test_malformed_requests_are_refused_with_what_would_be_right(
    client: httpx.AsyncClient, case: malformed.Malformed
) -> None:
    answer = await client.post(case.path, content=case.content, headers={"content-type": "application/json"})
    assert answer.status_code == case.status, answer.text
    assert case.says in answer.json()["error"]["message"]


async def test_a_server_without_models_says_so(yard: Yard, tmp_path: Path) -> None:
    yard.models = ModelRegistry(tmp_path / "absent.yaml")
    answer = await (await yard.client(app=yard.app())).post("/v1/generate", json={"prompt": "x"})
    assert (answer.status_code, answer.json()["code"]) == (404, "model_not_found")
    assert "models.yaml" in answer.json()["message"]


async def test_more_answers_than_one_request_may_have_are_refused(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/completions", json={"model": MODEL, "prompt": ["x"] * 3, "n": 8})
    assert answer.status_code == 400
    assert "16" in answer.json()["error"]["message"]


async def test_requests_and_tokens_are_counted(client: httpx.AsyncClient) -> None:
    await client.post("/v1/chat/completions", json=CHAT)
    shown = (await client.get("/metrics")).text
    assert f'trainyard_llm_requests_total{{model="{MODEL}",outcome="done"}} 1.0' in shown
    assert f'trainyard_llm_tokens_total{{direction="prompt",model="{MODEL}"}} 20.0' in shown
    assert f'trainyard_llm_tokens_total{{direction="completion",model="{MODEL}"}} 15.0' in shown


async def test_the_routes_are_in_the_openapi_document(yard: Yard) -> None:
    document = yard.app().openapi()
    assert {"/v1/generate", "/v1/chat/completions", "/v1/completions", "/v1/models"} <= set(document["paths"])
    temperature = json.dumps(document["components"]["schemas"]["GenerateRequest"]["properties"]["temperature"])
    assert '"maximum": 2' in temperature
