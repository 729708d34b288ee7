"""What every backend owes, whoever does the work."""

import math
from typing import Any

import pytest

from tests.contract.serving import fleet
from tests.contract.serving.fleet import HELLO, Fleet
from trainyard.core import errors
from trainyard.serving.types import Chat, EmbedAsk, Prompt, pieces

ALL = ["local", "adapted", "fake", "openai", "ollama", "chained"]
WITH_LOGPROBS = [name for name in ALL if name != "ollama"]
TEXT = "alpha beta gamma delta epsilon"

every_model = pytest.mark.parametrize("model", ALL)
every_prompt = pytest.mark.parametrize("prompt", [HELLO, TEXT], ids=["chat", "text"])


@every_model
@every_prompt
async def test_pieces_put_together_are_the_whole_answer(yard: Fleet, model: str, prompt: Prompt) -> None:
    whole = await yard.collect(model, prompt)
    made = await yard.stream(model, prompt)
    joined = pieces.join(made)
    assert joined.text == whole.text != ""
    assert (joined.finish_reason, joined.completion_tokens) == (whole.finish_reason, whole.completion_tokens)
    assert (joined.prompt_tokens, joined.version) == (whole.prompt_tokens, whole.version)


@every_model
async def test_only_the_last_piece_has_a_finish_reason_and_counts_never_fall(yard: Fleet, model: str) -> None:
    made = await yard.stream(model, logprobs=0) if model in WITH_LOGPROBS else await yard.stream(model)
    assert [piece.finish_reason is not None for piece in made] == [False] * (len(made) - 1) + [True]
    if model in WITH_LOGPROBS:
        drawn = [piece.completion_tokens for piece in made]
        assert drawn == sorted(drawn)
    assert len({piece.version for piece in made}) == 1


@every_model
@pytest.mark.parametrize("limit", [1, 3])
async def test_an_answer_is_no_longer_than_its_limit(yard: Fleet, model: str, limit: int) -> None:
    whole = await yard.collect(model, max_tokens=limit)
    assert (whole.completion_tokens, whole.finish_reason) == (limit, "length")
    last = (await yard.stream(model, max_tokens=limit))[-1]
    assert (last.completion_tokens, last.finish_reason) == (limit, "length")


@every_model
async def test_text_ends_before_a_stop_string(yard: Fleet, model: str) -> None:
    whole = (await yard.collect(model)).text
    stop = whole.split()[2]
    cut = await yard.collect(model, stop=(stop,))
    assert cut.text.rstrip() == " ".join(whole.split()[:2])
    assert cut.finish_reason == "stop"
    assert "".join(piece.text for piece in await yard.stream(model, stop=(stop,))) == cut.text


@every_model
@every_prompt
async def test_what_is_reserved_covers_what_is_told(yard: Fleet, model: str, prompt: Prompt) -> None:
    (prepared,) = await yard.backend.prepare(fleet.target(model), fleet.ask(prompt, max_tokens=5))
    whole = await prepared.collect(0, 10)
    assert prepared.prompt_tokens >= (whole.prompt_tokens or prepared.prompt_tokens) > 0
    assert prepared.max_tokens >= whole.completion_tokens
    assert prepared.drawn in (0, whole.completion_tokens)


@pytest.mark.parametrize("model", WITH_LOGPROBS)
@every_prompt
async def test_log_probabilities_come_with_their_tokens(yard: Fleet, model: str, prompt: Prompt) -> None:
    whole = await yard.collect(model, prompt, logprobs=1, max_tokens=4)
    assert len(whole.tokens) == 4
    assert b"".join(token.raw for token in whole.tokens).decode() == whole.text
    assert all(token.logprob <= 0 and len(token.top) == 1 for token in whole.tokens)
    streamed = pieces.join(await yard.stream(model, prompt, logprobs=1, max_tokens=4))
    assert streamed.tokens == whole.tokens
    assert (await yard.collect(model, prompt)).tokens == ()


@every_model
async def test_several_prompts_are_prepared_in_order(yard: Fleet, model: str) -> None:
    asked = fleet.ask("alpha")
    several = await yard.backend.prepare(
        fleet.target(model), type(asked)(model=None, prompts=["alpha", "beta gamma"], param="p", default_max_tokens=9)
    )
    assert len(several) == 2
    assert several[0].prompt_tokens < several[1].prompt_tokens


@every_model
async def test_a_stream_that_is_closed_early_stops_the_work(yard: Fleet, model: str) -> None:
    (prepared,) = await yard.backend.prepare(fleet.target(model), fleet.ask())
    stream = prepared.stream(0, 10)
    assert (await anext(stream)).finish_reason is None
    await stream.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


@every_model
@pytest.mark.parametrize("dimensions", [None, 4])
async def test_vectors_have_length_one_and_the_dimensions_asked_for(
    yard: Fleet, model: str, dimensions: int | None
) -> None:
    asked = EmbedAsk(model=None, inputs=["alpha", "beta gamma", "alpha"], param="input", dimensions=dimensions)
    made = await yard.backend.embed(fleet.target(model), asked, 10)
    assert len(made.vectors) == 3
    assert made.vectors[0] == made.vectors[2] != made.vectors[1]
    assert all(math.isclose(sum(x * x for x in one), 1.0, abs_tol=1e-5) for one in made.vectors)
    assert {len(one) for one in made.vectors} == ({4} if dimensions else {len(made.vectors[0])})
    assert await yard.backend.count(fleet.target(model), asked) >= made.prompt_tokens > 0


@every_model
async def test_more_dimensions_than_there_are_is_a_fault_of_the_request(yard: Fleet, model: str) -> None:
    asked = EmbedAsk(model=None, inputs=["alpha"], param="input", dimensions=100_000)
    with pytest.raises(errors.InvalidRequest) as caught:
        await yard.backend.embed(fleet.target(model), asked, 10)
    assert caught.value.param == "dimensions"


REFUSALS: list[tuple[str, Prompt, dict[str, Any], str]] = [
    ("ollama", HELLO, {"logprobs": 0}, "logprobs"),
    ("ollama", Chat(HELLO.messages, fleet.TOOLS), {"tool_choice": "required"}, "tool_choice"),
    ("ollama", Chat(HELLO.messages, fleet.TOOLS), {"parallel_tool_calls": False}, "parallel_tool_calls"),
    ("openai", HELLO, {"top_k": 5}, "top_k"),
    ("openai", HELLO, {"min_p": 0.1}, "min_p"),
    ("chained", HELLO, {"top_k": 5}, "top_k"),
]


@pytest.mark.parametrize(("model", "prompt", "asked", "param"), REFUSALS)
async def test_what_cannot_be_honoured_is_refused_by_name(
    yard: Fleet, model: str, prompt: Prompt, asked: dict[str, Any], param: str
) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        await yard.collect(model, prompt, **asked)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", param)
    assert yard.mock.seen.total == 0
