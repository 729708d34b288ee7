"""What is left of runs when an engine dies or is told to end."""

import asyncio
from pathlib import Path

import pytest

from tests.contract.engine.harness import ProcessHarness, datum, read, request, rest, run_spec
from tests.contract.engine.implementations import Make, made_by
from trainyard.core import errors
from trainyard.engine import base, types


async def test_death_fails_calls_and_streams_in_flight_and_they_may_be_retried(
    make_mortal: Make, tmp_path: Path
) -> None:
    harness = await make_mortal(is_slow=True)
    engine = harness.engine
    await engine.open_run(run_spec(tmp_path))
    stream = engine.generate(request(1500))
    await anext(stream)
    call = asyncio.create_task(engine.forward_backward("run_1", [datum(600)] * 50, accumulate=False))
    await asyncio.sleep(0.05)
    await harness.kill()
    with pytest.raises(errors.Unavailable) as mid_call:
        await call
    with pytest.raises(errors.Unavailable) as mid_stream:
        await rest(stream)
    for failure in (mid_call.value, mid_stream.value):
        assert failure.code == "engine_restarting"
        assert failure.retry_after_s is not None
    await harness.restart()
    assert len(await read(engine, request(3))) == 3


async def test_after_a_death_between_gradients_and_step_the_gradients_are_lost_once(
    make_mortal: Make, tmp_path: Path
) -> None:
    harness = await make_mortal()
    engine = harness.engine
    await engine.open_run(run_spec(tmp_path))
    await engine.forward_backward("run_1", [datum(6)], accumulate=False)
    await harness.kill()
    await harness.restart()
    with pytest.raises(errors.NotFound):
        await engine.optim_step("run_1")
    state = await engine.open_run(run_spec(tmp_path))
    assert (state.gradients_lost, state.current_step, state.pending_tokens) == (True, 0, 0)
    with pytest.raises(errors.Conflict) as lost:
        await engine.optim_step("run_1")
    assert lost.value.code == "gradients_lost"
    await engine.forward_backward("run_1", [datum(6)], accumulate=False)
    assert (await engine.optim_step("run_1")).step == 1


async def test_after_a_death_a_run_is_back_at_its_durable_step_and_says_so(make_mortal: Make, tmp_path: Path) -> None:
    harness = await make_mortal()
    engine = harness.engine
    spec = run_spec(tmp_path, rank=64)  # a state over 16 MB is written every 60 s, not after each step
    await engine.open_run(spec)
    await _train(engine, 2)
    await engine.save("run_1", "adapter", str(tmp_path / "saved"))  # makes step 2 durable
    await _train(engine, 1)
    await harness.kill()
    await harness.restart()
    state = await engine.open_run(spec)
    assert (state.current_step, state.durable_step) == (2, 2)
    assert state.rolled_back == types.RolledBack(from_step=3, to_step=2)


async def _train(engine: base.Engine, steps: int) -> None:
    for _ in range(steps):
        await engine.forward_backward("run_1", [datum(6)], accumulate=False)
        await engine.optim_step("run_1")


@pytest.mark.parametrize("kind", ["socket-fake", "socket"])
async def test_sigterm_writes_every_run_and_exits_0(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    async for make in made_by(kind, request, tmp_path, may_share=False):
        harness = await make()
        assert isinstance(harness, ProcessHarness)
        spec = run_spec(tmp_path, rank=64)
        await harness.engine.open_run(spec)
        await _train(harness.engine, 3)
        assert await harness.terminate() == 0
        await harness.restart()
        state = await harness.engine.open_run(spec)
        assert (state.current_step, state.rolled_back) == (3, None)
