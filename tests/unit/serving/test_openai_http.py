"""OpenAI's dialect in process: tools, formats, penalties, embeddings."""

import base64
import json
from typing import Any

import httpx
import numpy as np
import pytest

from tests.unit.serving.byte_model import VOCABULARY
from tests.unit.serving.test_http import asked
from tests.unit.serving.yard import MODEL, Yard, events
from trainyard.engine import types
from trainyard.engine.fake import FakeEngine

CALL = '<tool_call>\n{"name":"add","arguments":{"a":1,"b":"x"}}\n</tool_call>'
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}},
    },
}
ASK: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}


def chat(**more: Any) -> dict[str, Any]:
    return {**ASK, "messages": [{"role": "user", "content": "hi"}], **more}


@pytest.fixture
async def caller(yard: Yard, client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client of an engine that calls a tool twice, whatever is asked."""
    del client
    await yard.engine.aclose()
    script = yard.tokenizer.encode(f"{CALL}\n{CALL}", add_special_tokens=False)
    yard.engine = FakeEngine(MODEL, vocab_size=VOCABULARY, script=script, max_positions=4096)
    return await yard.client(app=yard.app())


async def test_calls_are_answered_whole(caller: httpx.AsyncClient, yard: Yard) -> None:
    body = (await caller.post("/v1/chat/completions", json=chat(tools=[ADD], tool_choice="required"))).json()
    choice = body["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    calls = choice["message"]["tool_calls"]
    assert [call["function"] for call in calls] == [{"name": "add", "arguments": '{"a":1,"b":"x"}'}] * 2
    assert len({call["id"] for call in calls}) == 2
    assert all(call["type"] == "function" for call in calls)
    assert asked(yard)[0].sampling.grammar.kind == "lark"


async def test_calls_are_streamed_part_by_part(caller: httpx.AsyncClient) -> None:
    async with caller.stream("POST", "/v1/chat/completions", json=chat(tools=[ADD], stream=True)) as answer:
        seen = [event async for event in events(answer)]
    assert seen.pop() == "[DONE]"
    parts = [part for event in seen for part in event["choices"][0]["delta"].get("tool_calls", [])]
    firsts = [part for part in parts if "id" in part]
    assert [(part["index"], part["type"], part["function"]["name"]) for part in firsts] == [
        (0, "function", "add"),
        (1, "function", "add"),
    ]
    for index in (0, 1):
        text = "".join(part["function"]["arguments"] for part in parts if part["index"] == index)
        assert json.loads(text) == {"a": 1, "b": "x"}
    assert seen[-1]["choices"][0]["finish_reason"] == "tool_calls"
    assert not any(event["choices"][0]["delta"].get("content") for event in seen)


async def test_without_a_choice_the_text_stays_text(caller: httpx.AsyncClient, yard: Yard) -> None:
    body = (await caller.post("/v1/chat/completions", json=chat(tools=[ADD], tool_choice="none"))).json()
    assert body["choices"][0]["message"]["content"] == f"{CALL}\n{CALL}"
    assert body["choices"][0]["finish_reason"] == "stop"
    assert asked(yard)[0].sampling.grammar is None


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ({"type": "json_object"}, "json_object"),
        (
            {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": {"type": "null"}}},
            "json_schema",
        ),
        ({"type": "text"}, None),
        (None, None),
    ],
)
async def test_a_format_becomes_a_grammar(
    yard: Yard, client: httpx.AsyncClient, given: dict[str, Any] | None, kind: str | None
) -> None:
    answer = await client.post("/v1/chat/completions", json=chat(response_format=given))
    assert answer.status_code == 200, answer.text
    grammar = asked(yard)[0].sampling.grammar
    assert (None if grammar is None else grammar.kind) == kind


async def test_a_bad_schema_is_a_bad_request_that_names_the_format(client: httpx.AsyncClient) -> None:
    bad = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"not": {}}}}
    answer = await client.post("/v1/chat/completions", json=chat(response_format=bad))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["param"], error["code"]) == ("response_format", "invalid_grammar")
    assert "Unimplemented" in error["message"]


async def test_another_fault_of_a_request_with_a_form_keeps_its_own_name(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v1/chat/completions", json=chat(response_format={"type": "json_object"}, max_tokens=9999)
    )
    error = answer.json()["error"]
    assert (answer.status_code, error["param"], error["code"]) == (400, "messages", "context_length_exceeded")


async def test_penalties_and_min_p_reach_the_engine(yard: Yard, client: httpx.AsyncClient) -> None:
    given = {"presence_penalty": -2, "frequency_penalty": 0.5, "min_p": 0.25}
    for path, body in (("chat/completions", chat(**given)), ("completions", {"model": MODEL, "prompt": "a", **given})):
        assert (await client.post(f"/v1/{path}", json=body)).status_code == 200
    for request in asked(yard):
        sampling = request.sampling
        assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.min_p) == (-2.0, 0.5, 0.25)


async def test_a_conversation_with_calls_and_results_is_rendered(caller: httpx.AsyncClient, yard: Yard) -> None:
    called = {"id": "call_9", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    messages = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_9", "content": [{"type": "text", "text": "41"}]},
    ]
    answer = await caller.post("/v1/chat/completions", json=chat(messages=messages, tools=[ADD]))
    assert answer.status_code == 200, answer.text
    prompt = yard.tokenizer.decode(types.read_int32(asked(yard)[0].prompt))
    assert "<tool_response>\n41\n</tool_response>" in prompt
    assert '<tool_call>\n{"name":"add","arguments":{"a":1}}\n</tool_call>' in prompt


async def test_texts_become_vectors_of_length_one(client: httpx.AsyncClient) -> None:
    body = {"model": MODEL, "input": ["ab", "c", "ab"]}
    answer = await client.post("/v1/embeddings", json=body)
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert (made["object"], made["model"], made["usage"]) == ("list", MODEL, {"prompt_tokens": 5, "total_tokens": 5})
    assert [(row["object"], row["index"]) for row in made["data"]] == [
        ("embedding", 0),
        ("embedding", 1),
        ("embedding", 2),
    ]
    vectors = np.array([row["embedding"] for row in made["data"]])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-6)
    assert vectors[0].tolist() == vectors[2].tolist() != vectors[1].tolist()


async def test_vectors_come_packed_and_shortened(client: httpx.AsyncClient) -> None:
    plain = (await client.post("/v1/embeddings", json={"model": MODEL, "input": "ab"})).json()["data"][0]["embedding"]
    packed = await client.post("/v1/embeddings", json={"model": MODEL, "input": "ab", "encoding_format": "base64"})
    raw = base64.b64decode(packed.json()["data"][0]["embedding"])
    np.testing.assert_allclose(np.frombuffer(raw, dtype="<f4"), plain, atol=1e-7)
    short = await client.post("/v1/embeddings", json={"model": MODEL, "input": "ab", "dimensions": 4})
    first = np.array(plain[:4])
    np.testing.assert_allclose(short.json()["data"][0]["embedding"], first / np.linalg.norm(first), atol=1e-6)


@pytest.mark.parametrize(("given", "tokens"), [([1, 2, 3], 3), ([[1, 2], [3]], 3)])
async def test_token_ids_are_embedded_as_they_are(client: httpx.AsyncClient, given: Any, tokens: int) -> None:
    answer = (await client.post("/v1/embeddings", json={"model": MODEL, "input": given})).json()
    assert answer["usage"]["prompt_tokens"] == tokens


async def test_embeddings_are_paid_for_and_a_failure_is_not(yard: Yard, client: httpx.AsyncClient) -> None:
    await client.post("/v1/embeddings", json={"model": MODEL, "input": "abc", "user": "u"})
    refused = await client.post("/v1/embeddings", json={"model": MODEL, "input": [999_999]})
    assert refused.status_code == 400
    assert "Token ids of this model" in refused.json()["error"]["message"]
    assert [charge.used.prompt_tokens for charge in yard.meter.settled if charge.used] == [3]
    assert yard.meter.running == []
