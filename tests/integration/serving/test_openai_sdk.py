"""The published `openai` package, unmodified, against a real server with the pocket model."""

from collections.abc import AsyncIterator, Iterator

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from trainyard.testing.plugin import LiveServer

MODEL = "trainyard/pocket"
TURNS: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "Answer in one sentence."},
    {"role": "user", "content": "What is 2 plus 3?"},
]


@pytest.fixture
def client(live_server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live_server.url}/v1", api_key=live_server.key, max_retries=0) as made:
        yield made


@pytest.fixture
async def async_client(live_server: LiveServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{live_server.url}/v1", api_key=live_server.key, max_retries=0) as made:
        yield made


def test_a_chat_is_answered_with_counts(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=TURNS, max_tokens=24, temperature=0)
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 0 < answer.usage.completion_tokens <= 24
    assert answer.system_fingerprint == "base"


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model=MODEL, messages=TURNS, max_tokens=24, temperature=0)
    chunks = list(
        client.chat.completions.create(
            model=MODEL,
            messages=TURNS,
            max_tokens=24,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert said == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == whole.choices[0].finish_reason


def test_a_seed_repeats_an_answer_and_choices_differ(client: openai.OpenAI) -> None:
    def ask() -> list[str]:
        answer = client.completions.create(model=MODEL, prompt="The", max_tokens=16, temperature=1.5, seed=7, n=3)
        return [choice.text for choice in sorted(answer.choices, key=lambda choice: choice.index)]

    first = ask()
    assert ask() == first
    assert len(set(first)) > 1


def test_a_completion_stops_before_a_stop_string(client: openai.OpenAI) -> None:
    free = client.completions.create(model=MODEL, prompt="Tell me", max_tokens=24, temperature=0).choices[0].text
    stop = free.strip()[len(free.strip()) // 2]
    held = client.completions.create(model=MODEL, prompt="Tell me", max_tokens=24, temperature=0, stop=[stop])
    assert held.choices[0].text == free.split(stop, 1)[0]
    assert held.choices[0].finish_reason == "stop"


def test_logprobs_are_probabilities_of_the_text(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=TURNS, max_tokens=8, temperature=0, logprobs=True, top_logprobs=3
    )
    assert answer.choices[0].logprobs is not None
    tokens = answer.choices[0].logprobs.content or []
    assert (
        b"".join(bytes(token.bytes or []) for token in tokens).decode().strip()
        == (answer.choices[0].message.content or "").strip()
    )
    for token in tokens:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3
        assert token.logprob == pytest.approx(max(rival.logprob for rival in token.top_logprobs))


def test_models_are_listed_and_shown(client: openai.OpenAI) -> None:
    assert MODEL in [model.id for model in client.models.list()]
    assert client.models.retrieve("pocket").id == MODEL


@pytest.mark.parametrize("key", ["sk-" + "x" * 43, "nonsense"])
def test_a_wrong_key_is_an_authentication_error(live_server: LiveServer, key: str) -> None:
    client = openai.OpenAI(base_url=f"{live_server.url}/v1", api_key=key, max_retries=0)
    with client, pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model=MODEL, messages=TURNS)
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize("model", ["gpt-9", "run_ffffffffffffffff", "../pocket"])
def test_an_unknown_model_is_not_found_and_the_names_are_given(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model=model, messages=TURNS)
    assert caught.value.code == "model_not_found"
    assert MODEL in caught.value.message


@pytest.mark.parametrize("stream", [False, True])
def test_an_over_long_prompt_is_a_bad_request_with_the_counts(client: openai.OpenAI, stream: bool) -> None:
    turns: list[ChatCompletionMessageParam] = [{"role": "user", "content": "word " * 20_000}]
    with pytest.raises(openai.BadRequestError, match=r"context is \d+ tokens; the prompt has \d+") as caught:
        client.chat.completions.create(model=MODEL, messages=turns, stream=stream)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "messages"


def test_an_option_that_is_not_honoured_is_refused(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="logit_bias"):
        client.chat.completions.create(model=MODEL, messages=TURNS, logit_bias={"1": 5})


async def test_the_async_client_chats_completes_and_streams(async_client: openai.AsyncOpenAI) -> None:
    chat = await async_client.chat.completions.create(model=MODEL, messages=TURNS, max_tokens=12, temperature=0)
    assert chat.choices[0].message.content
    text = await async_client.completions.create(model=MODEL, prompt="The", max_tokens=12, temperature=0)
    stream = await async_client.completions.create(model=MODEL, prompt="The", max_tokens=12, temperature=0, stream=True)
    assert "".join([chunk.choices[0].text async for chunk in stream]) == text.choices[0].text


async def test_the_async_client_reads_errors(live_server: LiveServer, async_client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await async_client.completions.create(model="gpt-9", prompt="x")
    with pytest.raises(openai.BadRequestError):
        await async_client.completions.create(model=MODEL, prompt="word " * 20_000)
    async with openai.AsyncOpenAI(base_url=f"{live_server.url}/v1", api_key="sk-none", max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError):
            await stranger.models.list()


async def test_a_stream_that_is_left_does_not_hold_the_model(async_client: openai.AsyncOpenAI) -> None:
    for _ in range(4):
        stream = await async_client.completions.create(model=MODEL, prompt="The", max_tokens=200, stream=True)
        async for _chunk in stream:
            break
        await stream.close()
    after = await async_client.completions.create(model=MODEL, prompt="The", max_tokens=4)
    assert after.choices[0].text
