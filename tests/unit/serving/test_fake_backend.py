"""The backend that says words back: how it counts, stops and refuses."""

from typing import Any

import pytest

from trainyard.core import errors
from trainyard.engine import generation
from trainyard.engine.generation import TextPiece
from trainyard.serving.backends.fake import CONTEXT_TOKENS, FakeBackend
from trainyard.serving.types import Ask, Chat, Prompt, Target

TARGET = Target("yard/parrot", "yard/parrot")


async def say(prompt: Prompt, **more: Any) -> TextPiece:
    ask = Ask(model=None, prompts=[prompt], param="prompt", **{"default_max_tokens": 100, **more})
    (prepared,) = await FakeBackend().prepare(TARGET, ask)
    return generation.join_pieces([piece async for piece in prepared.stream(0)])


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
    assert piece.logprobs == [0.0, 0.0]
    assert [token.top for token in piece.tokens] == [((0, 0.0),), ((1, 0.0),)]


async def test_token_ids_are_refused_for_want_of_a_vocabulary() -> None:
    with pytest.raises(errors.InvalidRequest, match="vocabulary"):
        await say([1, 2, 3])


async def test_a_prompt_of_as_many_words_as_the_context_leaves_no_room() -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        await say("word " * CONTEXT_TOKENS)
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.data == {"context_tokens": 4096, "prompt_tokens": 4096, "max_tokens": 1}
