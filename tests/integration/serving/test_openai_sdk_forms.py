"""The published `openai` package against a real server: schemas, tools, embeddings, headers."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

import numpy as np
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from trainyard.testing.plugin import LiveServer

MODEL = "trainyard/pocket"
TURNS: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the weather in Paris?"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
CLOCK: ChatCompletionToolParam = {"type": "function", "function": {"name": "now"}}


class Person(BaseModel):
    name: str
    age: int
    kind: Literal["child", "adult"]
    tags: list[str]


class GetWeather(BaseModel):
    """The weather of a city."""

    city: str
    days: int


@pytest.fixture
def client(live_server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live_server.url}/v1", api_key=live_server.key, max_retries=0) as made:
        yield made


@pytest.fixture
async def async_client(live_server: LiveServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{live_server.url}/v1", api_key=live_server.key, max_retries=0) as made:
        yield made


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_an_answer_is_parsed_into_a_pydantic_model(client: openai.OpenAI, temperature: float) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=TURNS, response_format=Person, max_tokens=120, temperature=temperature
    )
    assert answer.choices[0].finish_reason == "stop"
    assert isinstance(answer.choices[0].message.parsed, Person)


def test_a_json_object_is_one(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=TURNS, response_format={"type": "json_object"}, max_tokens=60
    )
    assert isinstance(json.loads(answer.choices[0].message.content or ""), dict)


def test_a_schema_that_cannot_be_kept_is_a_bad_request(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="uniqueItems") as caught:
        client.chat.completions.create(
            model=MODEL,
            messages=TURNS,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "odd", "schema": {"type": "array", "uniqueItems": True}},
            },
        )
    assert caught.value.param == "response_format"


def test_a_streamed_answer_follows_its_schema(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=TURNS, response_format=Person, max_tokens=120, temperature=1.0, seed=5
    ) as stream:
        for _event in stream:
            pass
        final = stream.get_final_completion()
    assert isinstance(final.choices[0].message.parsed, Person)


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_a_required_tool_is_called_with_arguments_of_its_schema(client: openai.OpenAI, temperature: float) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=TURNS,
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=120,
        temperature=temperature,
    )
    choice = answer.choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    arguments = json.loads(call.function.arguments)
    assert call.id.startswith("call_")
    assert call.function.name == "get_weather"
    assert arguments["unit"] in ("celsius", "fahrenheit")
    assert set(arguments) == {"city", "unit"}


def test_the_named_tool_is_the_one_that_is_called(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=TURNS,
        tools=[WEATHER, CLOCK],
        tool_choice={"type": "function", "function": {"name": "now"}},
        max_tokens=80,
    )
    calls = answer.choices[0].message.tool_calls or []
    assert [(one.function.name, one.function.arguments) for one in calls if one.type == "function"] == [("now", "{}")]


def test_a_tool_is_parsed_into_a_pydantic_model(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL,
        messages=TURNS,
        tools=[openai.pydantic_function_tool(GetWeather)],
        tool_choice="required",
        max_tokens=120,
        temperature=0,
    )
    calls = answer.choices[0].message.tool_calls
    assert calls
    assert all(call.type == "function" and isinstance(call.function.parsed_arguments, GetWeather) for call in calls)


def test_streamed_calls_add_up_to_whole_ones(client: openai.OpenAI) -> None:
    whole, streamed = "", ""
    asked: dict[str, Any] = {
        "model": MODEL,
        "messages": TURNS,
        "tools": [WEATHER],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_tokens": 120,
        "temperature": 0,
    }
    answer = client.chat.completions.create(**asked)
    for call in answer.choices[0].message.tool_calls or []:
        assert call.type == "function"
        whole += call.function.arguments
    finish = None
    for chunk in client.chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            finish = choice.finish_reason or finish
            for part in choice.delta.tool_calls or []:
                streamed += (part.function.arguments if part.function else None) or ""
    assert streamed == whole
    assert whole
    assert finish == "tool_calls"


def test_a_conversation_goes_on_after_a_result(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=TURNS, tools=[CLOCK], tool_choice="required", parallel_tool_calls=False, max_tokens=80
    )
    message = answer.choices[0].message
    assert message.tool_calls is not None
    turns: list[Any] = [
        *TURNS,
        message,
        {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "It is noon."},
    ]
    after = client.chat.completions.create(
        model=MODEL, messages=turns, tools=[CLOCK], tool_choice="none", max_tokens=24
    )
    assert after.choices[0].message.content
    assert after.choices[0].message.tool_calls is None


def test_with_auto_text_stays_text_or_calls_parse(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=TURNS, tools=[WEATHER, CLOCK], max_tokens=80, temperature=1.0, n=4, seed=3
    )
    for choice in answer.choices:
        for call in choice.message.tool_calls or []:
            if choice.finish_reason == "tool_calls":
                assert call.type == "function"
                assert isinstance(json.loads(call.function.arguments), dict)
        assert (choice.finish_reason == "tool_calls") <= bool(choice.message.tool_calls)


async def test_the_async_client_calls_tools_and_parses(async_client: openai.AsyncOpenAI) -> None:
    parsed = await async_client.chat.completions.parse(
        model=MODEL, messages=TURNS, response_format=Person, max_tokens=120, temperature=0
    )
    assert isinstance(parsed.choices[0].message.parsed, Person)
    stream = await async_client.chat.completions.create(
        model=MODEL, messages=TURNS, tools=[CLOCK], tool_choice="required", max_tokens=80, stream=True
    )
    names = [
        part.function.name
        async for chunk in stream
        for choice in chunk.choices
        for part in choice.delta.tool_calls or []
        if part.function and part.function.name
    ]
    assert set(names) == {"now"}


def test_embeddings_come_as_the_package_asks_for_them_by_default(client: openai.OpenAI) -> None:
    texts = ["The sky is blue.", "A cat.", "The sky is blue."]
    made = client.embeddings.create(model=MODEL, input=texts)  # in base64, which the package unpacks
    plain = client.embeddings.create(model=MODEL, input=texts, encoding_format="float")
    vectors = np.array([row.embedding for row in made.data])
    np.testing.assert_allclose(vectors, np.array([row.embedding for row in plain.data]), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 0.01
    assert made.usage.prompt_tokens == made.usage.total_tokens > 3


def test_embeddings_can_be_shortened(client: openai.OpenAI) -> None:
    made = client.embeddings.create(model=MODEL, input="The sky is blue.", dimensions=8)
    assert len(made.data[0].embedding) == 8
    assert np.linalg.norm(made.data[0].embedding) == pytest.approx(1.0, abs=1e-5)


async def test_the_async_client_embeds_token_ids(async_client: openai.AsyncOpenAI) -> None:
    made = await async_client.embeddings.create(model=MODEL, input=[[5, 6, 7], [8]])
    assert [row.index for row in made.data] == [0, 1]
    assert made.usage.prompt_tokens == 4


def test_a_raw_response_has_the_headers_of_limits_and_cache(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=MODEL, messages=TURNS, max_tokens=4, temperature=0)
    assert raw.headers["x-request-id"]
    assert raw.headers["x-trainyard-cache"] in ("hit", "miss", "bypass", "joined")
    usage = raw.parse().usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens is not None


def test_penalties_change_what_is_said(client: openai.OpenAI) -> None:
    def say(penalty: float) -> str:
        answer = client.completions.create(
            model=MODEL, prompt="The", max_tokens=40, temperature=0, frequency_penalty=penalty, presence_penalty=penalty
        )
        return answer.choices[0].text

    assert say(0.0) != say(2.0)
