"""The backend that says words back: how it counts, stops and refuses."""

from dataclasses import replace
from typing import Any

import pytest

from trainyard.core import errors
from trainyard.engine.types import Grammar
from trainyard.serving.backends.fake import CONTEXT_TOKENS, FakeBackend
from trainyard.serving.types import Ask, Chat, EmbedAsk, Piece, Prompt, Target, TokenInfo, Tool, pieces

TARGET = Target("yard/parrot", "yard/parrot")


async def say(prompt: Prompt, **more: Any) -> Piece:
    ask = Ask(model=None, prompts=[prompt], param="prompt", **{"default_max_tokens": 100, **more})
    (prepared,) = await FakeBackend().prepare(TARGET, ask)
    whole = pieces.join([piece async for piece in prepared.stream(0, 60.0)])
    assert await prepared.collect(0, 60.0) == whole
    return whole


@pytest.mark.parametrize(
    ("prompt", "more", "text", "finish", "tokens"),
    [
        ("one two  three", {}, "one two  three", "stop", 3),
        ("one two three", {"max_tokens": 2}, "one two", "length", 2),
        ("one two three", {"stop": ("two",)}, "one ", "stop", 2),
        ("one two three", {"stop": ("three!",)}, "one two three", "stop", 3),
        (Chat([{"role": "user", "content": "a"}, {"role": "user", "content": "b c"}]), {}, "b c", "stop", 2),
        ("   ", {}, "(silence)", "stop", 1),
    ],
)
async def test_words_come_back(prompt: Prompt, more: dict[str, Any], text: str, finish: str, tokens: int) -> None:
    piece = await say(prompt, **more)
    assert (piece.text, piece.finish_reason, piece.completion_tokens) == (text, finish, tokens)


async def test_every_word_is_certain() -> None:
    piece = await say("one two", logprobs=3)
    assert piece.tokens == (TokenInfo(b"one", 0.0, ((b"one", 0.0),)), TokenInfo(b" two", 0.0, ((b" two", 0.0),)))


async def test_token_ids_are_refused_for_want_of_a_vocabulary() -> None:
    with pytest.raises(errors.InvalidRequest, match="vocabulary"):
        await say([1, 2, 3])


async def test_a_prompt_of_as_many_words_as_the_context_leaves_no_room() -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        await say("word " * CONTEXT_TOKENS)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.data == {"context_tokens": 4096, "prompt_tokens": 4096, "max_tokens": 1}


async def test_texts_of_the_same_words_are_the_same_vector() -> None:
    ask = EmbedAsk(model=None, inputs=["a b", "B  A", "c", ""], param="input")
    made = await FakeBackend().embed(TARGET, ask, 60.0)
    first, same, other, silent = made.vectors
    assert first == same
    assert first != other != silent
    assert [round(sum(x * x for x in one), 9) for one in made.vectors] == [1.0] * 4
    assert made.prompt_tokens == await FakeBackend().count(TARGET, ask) == 5


async def test_vectors_are_cut_to_what_was_asked_and_not_made_longer() -> None:
    ask = EmbedAsk(model=None, inputs=["a b"], param="input", dimensions=4)
    (vector,) = (await FakeBackend().embed(TARGET, ask, 60.0)).vectors
    assert len(vector) == 4
    with pytest.raises(errors.InvalidRequest, match="64"):
        await FakeBackend().embed(TARGET, replace(ask, dimensions=65), 60.0)


async def test_what_it_cannot_do_is_refused() -> None:
    chat = Chat([{"role": "user", "content": "a"}], tools=[Tool("f", "", {})])
    assert (await say(chat, tool_choice="none")).text == "a"
    for prompt, more in ((chat, {}), ("a", {"form": Grammar(kind="regex", text="a")})):
        with pytest.raises(errors.InvalidRequest) as caught:
            await say(prompt, **more)
        assert caught.value.code == "unsupported_parameter"
