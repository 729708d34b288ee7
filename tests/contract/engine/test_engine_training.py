"""Training in every implementation of `Engine`."""

import asyncio
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.contract.engine.harness import VOCAB, datum, run_spec
from tests.contract.engine.implementations import Make
from trainyard.core import errors
from trainyard.engine import base, types


async def test_a_run_goes_from_open_to_close_and_its_loss_falls(engine: base.Engine, tmp_path: Path) -> None:
    opened = await engine.open_run(run_spec(tmp_path))
    assert (opened.current_step, opened.pending_tokens, opened.gradients_lost, opened.rolled_back) == (
        0,
        0,
        False,
        None,
    )
    assert opened.trainable_parameters > 0
    losses = []
    for step in range(4):
        result = await engine.forward_backward("run_1", [datum(12), datum(5, first=40)], accumulate=False)
        assert (result.tokens, result.weight_sum, result.step) == (17, 17.0, step)
        losses.append(result.loss)
        assert (await engine.optim_step("run_1")).step == step + 1
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0]
    closed = await engine.close_run("run_1")
    assert (closed.current_step, closed.durable_step) == (4, 4)
    with pytest.raises(errors.NotFound) as away:
        await engine.run_state("run_1")
    assert away.value.code == "run_not_open"


async def test_a_closed_run_opens_again_where_it_was(engine: base.Engine, tmp_path: Path) -> None:
    await engine.open_run(run_spec(tmp_path))
    await engine.forward_backward("run_1", [datum(8)], accumulate=False)
    await engine.optim_step("run_1")
    await engine.close_run("run_1")
    again = await engine.open_run(run_spec(tmp_path))
    assert (again.current_step, again.durable_step, again.rolled_back, again.gradients_lost) == (1, 1, None, False)


async def test_opening_an_open_run_changes_nothing(engine: base.Engine, tmp_path: Path) -> None:
    await engine.open_run(run_spec(tmp_path))
    await engine.forward_backward("run_1", [datum(8)], accumulate=False)
    assert (await engine.open_run(run_spec(tmp_path))).pending_tokens == 8


@pytest.mark.parametrize(("accumulate", "pending"), [(True, 13), (False, 5)])
async def test_accumulate_adds_and_otherwise_replaces(
    engine: base.Engine, tmp_path: Path, accumulate: bool, pending: int
) -> None:
    await engine.open_run(run_spec(tmp_path))
    await engine.forward_backward("run_1", [datum(8)], accumulate=False)
    await engine.forward_backward("run_1", [datum(5)], accumulate=accumulate)
    assert (await engine.run_state("run_1")).pending_tokens == pending


async def test_a_step_without_gradients_is_a_conflict(engine: base.Engine, tmp_path: Path) -> None:
    await engine.open_run(run_spec(tmp_path))
    with pytest.raises(errors.Conflict) as conflict:
        await engine.optim_step("run_1")
    assert conflict.value.code == "no_gradients"
    assert (await engine.run_state("run_1")).current_step == 0


async def test_the_learning_rate_of_one_step_can_be_given(engine: base.Engine, tmp_path: Path) -> None:
    await engine.open_run(run_spec(tmp_path))
    await engine.forward_backward("run_1", [datum(8)], accumulate=False)
    assert (await engine.optim_step("run_1", learning_rate=0.5e-3)).learning_rate == pytest.approx(0.5e-3)


BAD_BATCH = {
    "no sequences": [],
    "an empty sequence": [types.Datum(tokens=b"", targets=b"", weights=b"")],
    "a token over the vocabulary": [
        datum(4),
        types.Datum(tokens=types.int32([VOCAB]), targets=types.int32([1]), weights=types.float32([1])),
    ],
}


@pytest.mark.parametrize("what", BAD_BATCH)
async def test_a_bad_batch_is_refused_and_leaves_the_held_gradients(
    engine: base.Engine, tmp_path: Path, what: str
) -> None:
    await engine.open_run(run_spec(tmp_path))
    await engine.forward_backward("run_1", [datum(7)], accumulate=False)
    with pytest.raises(errors.InvalidRequest):
        await engine.forward_backward("run_1", BAD_BATCH[what], accumulate=False)
    assert (await engine.run_state("run_1")).pending_tokens == 7


async def test_a_batch_over_the_frame_bound_arrives_whole(engine: base.Engine, tmp_path: Path) -> None:
    await engine.open_run(run_spec(tmp_path))
    long = datum(1024)
    last = types.Datum(tokens=types.int32([VOCAB]), targets=types.int32([1]), weights=types.float32([1]))
    data = [long] * (70 * 1024 * 1024 // (3 * len(long.tokens))) + [last]
    with pytest.raises(errors.InvalidRequest):  # the last token of all was seen
        await engine.forward_backward("run_1", data, accumulate=False)
    assert (await engine.run_state("run_1")).pending_tokens == 0


async def test_calls_of_one_run_keep_their_order(engine: base.Engine, tmp_path: Path) -> None:
    await engine.open_run(run_spec(tmp_path))
    async with asyncio.TaskGroup() as group:
        tasks: list[asyncio.Task[object]] = []
        for _ in range(3):
            tasks.append(group.create_task(_fb(engine)))
            tasks.append(group.create_task(_step(engine)))
    assert [task.result() for task in tasks] == [0, 1, 1, 2, 2, 3]


async def _fb(engine: base.Engine) -> object:
    return (await engine.forward_backward("run_1", [datum(4)], accumulate=False)).step


async def _step(engine: base.Engine) -> object:
    return (await engine.optim_step("run_1")).step


async def test_waiting_calls_of_different_runs_share_a_pass(make: Make, tmp_path: Path) -> None:
    engine = (await make(is_slow=True)).engine
    names = [f"run_{i}" for i in range(4)]
    for name in names:
        await engine.open_run(run_spec(tmp_path, name))
    first = asyncio.create_task(engine.forward_backward("run_0", [datum(600)] * 4, accumulate=False))
    await asyncio.sleep(0.02)
    others = [asyncio.create_task(engine.forward_backward(name, [datum(4)], accumulate=False)) for name in names[1:]]
    results = await asyncio.gather(*others)
    assert [result.packed_runs for result in results] == [3, 3, 3]
    assert (await first).packed_runs == 1


async def test_an_adapter_is_saved_whole_into_a_new_directory(engine: base.Engine, tmp_path: Path) -> None:
    await engine.open_run(run_spec(tmp_path))
    await engine.forward_backward("run_1", [datum(8)], accumulate=False)
    await engine.optim_step("run_1")
    target = tmp_path / "saved"
    saved = await engine.save("run_1", "adapter", str(target))
    assert (saved.step, saved.mode, saved.directory) == (1, "adapter", str(target))
    assert saved.files == {path.name: path.stat().st_size for path in target.iterdir()}
    tensors = load_file(target / "adapter_model.safetensors")
    assert {name.split(".")[-2] for name in tensors} == {"lora_A", "lora_B"}
    with pytest.raises(errors.Conflict) as again:
        await engine.save("run_1", "adapter", str(target))
    assert again.value.code == "already_exists"
    assert (await engine.run_state("run_1")).durable_step == 1


async def test_a_call_that_waits_is_taken_back_at_its_deadline(make: Make, tmp_path: Path) -> None:
    engine = (await make(is_slow=True)).engine
    await engine.open_run(run_spec(tmp_path))
    first = asyncio.create_task(engine.forward_backward("run_1", [datum(600)] * 4, accumulate=False))
    await asyncio.sleep(0.02)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(engine.forward_backward("run_1", [datum(4)], accumulate=True), 0.05)
    await first
    assert (await engine.run_state("run_1")).pending_tokens == 2400
