import asyncio
from collections.abc import Mapping

import pytest

from tests.unit.training.yard import Yard, new_run, principal, step, train
from trainyard.core import errors
from trainyard.engine import calls
from trainyard.engine import types as engine_types
from trainyard.training import types

ANN = principal("ann")

CHAT = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ok"}]
"""<|im_start|>user⏎hi<|im_end|> is 1+4+1+2+1 = 9 tokens, <|im_start|>assistant⏎ok<|im_end|> 1+9+1+2+1 = 14."""


def batch(*examples: Mapping[str, object], **options: object) -> types.ForwardBackwardRequest:
    return types.ForwardBackwardRequest.model_validate({"batch_data": list(examples), **options})


def sent(yard: Yard) -> list[engine_types.Datum]:
    """The sequences of the last batch that reached the engine."""
    return [call for call in yard.engine.seen if isinstance(call, calls.ForwardBackward)][-1].data


async def test_a_text_teaches_all_but_its_first_token(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    await yard.service.primitives.forward_backward(ANN, run_id, batch({"text": "abcd"}))
    (datum,) = sent(yard)
    tokens, targets = engine_types.read_int32(datum.tokens), engine_types.read_int32(datum.targets)
    assert tokens[1:] == targets[:-1]
    assert engine_types.read_float32(datum.weights) == [1.0, 1.0, 1.0]


async def test_a_chat_teaches_the_assistants_tokens_and_their_end_of_turn(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    result = await yard.service.primitives.forward_backward(ANN, run_id, batch({"messages": CHAT}))
    (datum,) = sent(yard)
    targets, weights = engine_types.read_int32(datum.targets), engine_types.read_float32(datum.weights)
    learned = [target for target, weight in zip(targets, weights, strict=True) if weight]
    tokenizer = yard.tokenizer()
    assert tokenizer.decode(learned, skip_special_tokens=False) == "ok<|im_end|>"
    assert (result.metrics.tokens, result.metrics.weighted_tokens) == (22, 3.0)


async def test_the_answer_has_every_field_of_the_guide(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    result = await yard.service.primitives.forward_backward(ANN, run_id, batch({"text": "ab"}, request_id="mine"))
    assert (result.loss, result.step, result.request_id, result.status) == (4.0, 0, "mine", "completed")
    assert (result.grad_norm, result.rl_metrics) == (result.grad_stats.norm, None)
    made = await yard.service.primitives.forward_backward(ANN, run_id, batch({"text": "ab"}))
    assert made.request_id.startswith("req_")


@pytest.mark.parametrize(
    ("example", "length", "code", "says"),
    [
        ({"text": "a" * 129}, 128, "example_too_long", "batch_data[1] has 129 tokens and max_seq_length"),
        ({"text": "a"}, 128, "nothing_to_learn", "batch_data[1] has no token to learn (1 in all)"),
        ({"messages": CHAT[:1]}, 128, "validation_error", "batch_data[1]: messages holds no assistant turn"),
    ],
)  # fmt: skip
async def test_an_example_that_cannot_be_trained_on_is_named_by_its_index(
    yard: Yard, example: dict[str, object], length: int, code: str, says: str
) -> None:
    run_id = await new_run(yard, ANN, max_seq_length=length)
    with pytest.raises(errors.InvalidRequest) as refused:
        await yard.service.primitives.forward_backward(ANN, run_id, batch({"text": "fits"}, example))
    assert refused.value.code == code
    assert refused.value.param == "batch_data[1]"
    assert says in refused.value.message


async def test_an_example_as_long_as_allowed_is_taken(yard: Yard) -> None:
    run_id = await new_run(yard, ANN, max_seq_length=128)
    result = await yard.service.primitives.forward_backward(ANN, run_id, batch({"text": "a" * 128}))
    assert result.metrics.tokens == 127


async def test_a_large_batch_is_encoded_like_a_small_one(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    result = await yard.service.primitives.forward_backward(
        ANN, run_id, batch(*({"text": "b" * 2000} for _ in range(17)))
    )
    assert result.metrics.tokens == 17 * 1999


@pytest.mark.parametrize(("accumulate", "tokens"), [(True, 4 + 2), (False, 2)])
async def test_accumulate_adds_and_without_it_the_batch_takes_the_place(
    yard: Yard, accumulate: bool, tokens: int
) -> None:
    run_id = await new_run(yard, ANN)
    await train(yard, ANN, run_id, "hello")
    await train(yard, ANN, run_id, "abc", accumulate=accumulate)
    assert (await yard.service.runs.status(ANN, run_id)).pending_tokens == tokens
    assert (await step(yard, ANN, run_id)).metrics.tokens == tokens


async def test_the_loss_of_a_step_is_weighted_over_its_batches(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    await train(yard, ANN, run_id, "hello")
    await train(yard, ANN, run_id, "abc", accumulate=True)
    metrics = (await step(yard, ANN, run_id)).metrics
    assert metrics.loss == pytest.approx(4.0)  # the fake's loss before any step, whatever the batch
    await train(yard, ANN, run_id, "abc")
    assert (await step(yard, ANN, run_id)).metrics.loss == pytest.approx(3.2)


async def test_a_step_clears_the_gradients_and_without_any_it_is_refused(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    with pytest.raises(errors.Conflict) as refused:
        await step(yard, ANN, run_id)
    assert refused.value.code == "no_gradients"
    await train(yard, ANN, run_id)
    await step(yard, ANN, run_id)
    with pytest.raises(errors.Conflict):
        await step(yard, ANN, run_id)


async def test_a_learning_rate_holds_for_one_step(yard: Yard) -> None:
    run_id = await new_run(yard, ANN, learning_rate=0.25)
    rates = []
    for rate in (0.5, None):
        await train(yard, ANN, run_id)
        request = types.OptimStepRequest(learning_rate=rate)
        rates.append((await yard.service.primitives.optim_step(ANN, run_id, request)).learning_rate)
    assert rates == [0.5, 0.25]
    entries = (await yard.service.runs.metrics(ANN, run_id)).metrics
    assert [(entry["step"], entry["learning_rate"]) for entry in entries] == [(1, 0.5), (2, 0.25)]
    assert set(entries[0]) == {"timestamp", "step", "loss", "grad_norm", "learning_rate", "tokens", "tokens_per_s"}


async def test_a_crash_between_the_primitives_loses_the_gradients_once(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    await train(yard, ANN, run_id)
    yard.engine.die()
    assert (await yard.service.runs.status(ANN, run_id)).gradients_lost is True
    with pytest.raises(errors.Conflict) as lost:
        await step(yard, ANN, run_id)
    assert lost.value.code == "gradients_lost"
    await train(yard, ANN, run_id, "abc")
    assert (await step(yard, ANN, run_id)).metrics.tokens == 2


async def test_a_crash_seen_first_by_optim_step_is_not_hidden_by_opening_the_run_again(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    await train(yard, ANN, run_id)
    yard.engine.die()
    with pytest.raises(errors.Conflict) as lost:
        await step(yard, ANN, run_id)
    assert lost.value.code == "gradients_lost"


async def test_steps_that_were_not_durable_are_rolled_back_and_status_says_so(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    for _ in range(2):
        await train(yard, ANN, run_id)
        await step(yard, ANN, run_id)
    yard.engine.die()
    durable = yard.settings.data_dir.absolute() / "runs" / run_id / "state" / "state.json"
    await asyncio.to_thread(durable.unlink)  # as if the crash had come before the first write
    status = await yard.service.runs.status(ANN, run_id)
    assert (status.current_step, status.durable_step) == (0, 0)
    assert status.model_dump(by_alias=True)["rolled_back"] == {"from": 2, "to": 0}
    await train(yard, ANN, run_id)
    assert (await step(yard, ANN, run_id)).step == 1
    assert [entry["step"] for entry in (await yard.service.runs.metrics(ANN, run_id)).metrics] == [1, 2, 1]


async def test_a_younger_server_does_not_guess_the_loss_of_gradients_it_did_not_see(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    await train(yard, ANN, run_id)
    yard.service = yard.new_service()
    await train(yard, ANN, run_id, accumulate=True)
    metrics = (await step(yard, ANN, run_id)).metrics
    assert (metrics.loss, metrics.tokens, metrics.tokens_per_s) == (None, None, None)
    await train(yard, ANN, run_id)
    assert (await step(yard, ANN, run_id)).metrics.loss is not None


async def test_an_engine_that_is_away_is_a_retryable_error_and_changes_nothing(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    await train(yard, ANN, run_id)
    yard.engine.fail_next(errors.Unavailable("away", code="engine_restarting", retry_after_s=1))
    with pytest.raises(errors.Unavailable):
        await step(yard, ANN, run_id)
    assert (await step(yard, ANN, run_id)).step == 1


async def test_acts_on_one_run_follow_each_other(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)

    async def both() -> int:
        await train(yard, ANN, run_id, accumulate=True)
        return 1

    await asyncio.gather(*(both() for _ in range(8)))
    assert (await step(yard, ANN, run_id)).metrics.tokens == 8 * 4


async def test_samples_that_open_a_run_again_do_not_forget_what_a_batch_measured(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    await train(yard, ANN, run_id)
    await step(yard, ANN, run_id)
    yard.engine.latency_s = 0.01
    yard.engine.die()
    sampling = types.SampleRequest(prompts=["a"], max_tokens=1)
    async with asyncio.TaskGroup() as group:
        group.create_task(train(yard, ANN, run_id))
        for _ in range(6):
            group.create_task(yard.service.sampling.sample(ANN, run_id, sampling))
    measured = (await step(yard, ANN, run_id)).metrics
    assert (measured.loss is not None, measured.tokens) == (True, len("hello") - 1)
