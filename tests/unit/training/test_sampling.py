import asyncio
from collections.abc import AsyncGenerator
from typing import cast

import pytest

from tests.unit.training.yard import CONTEXT, MODEL, VOCABULARY, Yard, new_run, principal, step, train
from trainyard.core import errors
from trainyard.engine.fake import FakeEngine
from trainyard.training import types

ANN = principal("ann")


def wish(**fields: object) -> types.SampleRequest:
    return types.SampleRequest.model_validate({"prompts": ["ab"], "max_tokens": 4, **fields})


async def sample(yard: Yard, run_id: str, **fields: object) -> types.SampleResponse:
    return await yard.service.sampling.sample(ANN, run_id, wish(**fields))


async def stream(yard: Yard, run_id: str, max_tokens: int = 4) -> AsyncGenerator[types.TokenChunk, None]:
    request = types.StreamRequest(prompt="ab", max_tokens=max_tokens)
    return cast(AsyncGenerator[types.TokenChunk, None], await yard.service.sampling.stream(ANN, run_id, request))


async def test_every_prompt_is_continued_without_itself(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    drawn = await sample(yard, run_id, prompts=["ab", "cd", "ef"])
    assert [len(ids) for ids in drawn.token_ids] == [4, 4, 4]
    assert drawn.finish_reasons == ["length"] * 3
    assert drawn.logprobs is None
    tokenizer = yard.tokenizer()
    assert drawn.tokens == [tokenizer.tokens(ids) for ids in drawn.token_ids]


async def test_logprobs_come_when_asked_one_per_token(yard: Yard) -> None:
    drawn = await sample(yard, await new_run(yard, ANN), return_logprobs=True)
    assert drawn.logprobs is not None
    assert [len(row) for row in drawn.logprobs] == [4]
    assert all(value < 0 for value in drawn.logprobs[0])


async def test_the_same_seed_draws_the_same_tokens_and_prompts_differ_in_theirs(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    first, again, other = [await sample(yard, run_id, prompts=["ab", "ab"], seed=seed) for seed in (1, 1, 3)]
    assert first.token_ids == again.token_ids
    assert first.token_ids[0] != first.token_ids[1]
    assert first.token_ids[0] != other.token_ids[0]


async def test_the_next_request_after_a_step_uses_its_weights(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    before = await sample(yard, run_id, seed=1)
    await train(yard, ANN, run_id)
    await step(yard, ANN, run_id)
    after = await sample(yard, run_id, seed=1)
    assert (before.weights_versions, after.weights_versions) == ([f"{run_id}@0"], [f"{run_id}@1"])
    assert before.token_ids != after.token_ids


@pytest.mark.parametrize(
    ("prompt_tokens", "max_tokens", "drawn"),
    [(CONTEXT - 3, 3, 3), (CONTEXT - 3, None, 3), (CONTEXT - 600, None, 512)],
)
async def test_what_fits_the_context_is_drawn(
    yard: Yard, prompt_tokens: int, max_tokens: int | None, drawn: int
) -> None:
    given = {} if max_tokens is None else {"max_tokens": max_tokens}
    request = types.SampleRequest.model_validate({"prompts": ["a" * prompt_tokens], **given})
    answer = await yard.service.sampling.sample(ANN, await new_run(yard, ANN), request)
    assert len(answer.token_ids[0]) == drawn
    assert answer.finish_reasons == ["length"]


@pytest.mark.parametrize(("prompt_tokens", "given"), [(CONTEXT - 3, {"max_tokens": 4}), (CONTEXT, {})])
async def test_what_does_not_fit_the_context_is_refused_with_the_numbers(
    yard: Yard, prompt_tokens: int, given: dict[str, int]
) -> None:
    request = types.SampleRequest.model_validate({"prompts": ["a", "a" * prompt_tokens], **given})
    with pytest.raises(errors.InvalidRequest, match=str(CONTEXT)) as refused:
        await yard.service.sampling.sample(ANN, await new_run(yard, ANN), request)
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "prompts[1]")


async def test_an_engine_that_dies_under_several_prompts_is_one_plain_error(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    yard.engine.die_after_tokens(5)
    with pytest.raises(errors.Unavailable):
        await sample(yard, run_id, prompts=["ab"] * 8, max_tokens=64)
    assert len((await sample(yard, run_id)).token_ids[0]) == 4  # and the run is opened again


async def test_a_stream_gives_one_event_per_token_and_says_which_is_the_last(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    chunks = [chunk async for chunk in await stream(yard, run_id, 6)]
    assert [chunk.is_finished for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert len([chunk for chunk in chunks if chunk.token_id is not None]) == 6
    assert all(chunk.logprob is not None for chunk in chunks if chunk.token_id is not None)


async def test_a_stream_that_ends_its_turn_has_an_end_without_a_token(yard: Yard) -> None:
    alphabet = yard.tokenizer()
    yard.engine = FakeEngine(MODEL, vocab_size=VOCABULARY, script=alphabet.encode("ok"))
    yard.service = yard.new_service()
    chunks = [chunk async for chunk in await stream(yard, await new_run(yard, ANN), 64)]
    assert [chunk.token for chunk in chunks] == ["o", "k", ""]
    assert (chunks[-1].token_id, chunks[-1].logprob, chunks[-1].is_finished) == (None, None, True)
    answer = await sample(yard, await new_run(yard, ANN), max_tokens=64)
    assert (answer.outputs, answer.finish_reasons) == (["ok"], ["stop"])


async def test_leaving_a_stream_frees_its_place_in_the_engine(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    chunks = await stream(yard, run_id, 3000)
    await anext(chunks)
    assert (await yard.engine.stats()).active_streams == 1
    await chunks.aclose()
    async with asyncio.timeout(5):
        while (await yard.engine.stats()).active_streams:  # each question waits for the compute thread
            pass


async def test_a_stream_on_a_restarted_engine_opens_the_run_first(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    yard.engine.die()
    assert [chunk async for chunk in await stream(yard, run_id)][-1].is_finished


async def test_a_stream_whose_engine_dies_raises_where_it_stands(yard: Yard) -> None:
    chunks = await stream(yard, await new_run(yard, ANN), 3000)
    await anext(chunks)
    yard.engine.die()
    with pytest.raises(errors.Unavailable):
        async for _ in chunks:
            pass
