import pytest

from tests.unit.training.yard import MODEL, Yard, new_run, principal, step, train
from trainyard.training import types

ANN = principal("ann")


async def trained(yard: Yard, steps: int = 1) -> str:
    run_id = await new_run(yard, ANN)
    for _ in range(steps):
        await train(yard, ANN, run_id)
        await step(yard, ANN, run_id)
    return run_id


async def test_a_run_is_a_model_from_its_first_step_on(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    assert await yard.service.adapters.resolve_adapter(ANN, run_id) is None
    assert await yard.service.adapters.list_adapters(ANN) == []
    await train(yard, ANN, run_id)
    await step(yard, ANN, run_id)
    found = await yard.service.adapters.resolve_adapter(ANN, run_id)
    assert found is not None
    assert (found.name, found.base_model, found.run_id, found.checkpoint_dir) == (run_id, MODEL, run_id, None)
    assert (found.step, found.owner) == (1, "default/ann")
    assert await yard.service.adapters.list_adapters(ANN) == [found]


@pytest.mark.parametrize(
    "who", [principal("bob"), principal("ann", tenant="other"), principal("root", scopes=("generate", "admin"))]
)
async def test_a_stranger_sees_no_adapter(yard: Yard, who: object) -> None:
    run_id = await trained(yard)
    await yard.service.saving.save_state(ANN, run_id, types.SaveStateRequest())
    for name in (run_id, f"{run_id}@1", f"{run_id}:step_1"):
        assert await yard.service.adapters.resolve_adapter(who, name) is None  # type: ignore[arg-type]
    assert await yard.service.adapters.list_adapters(who) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(("form", "expected"), [("@1", "step_1"), (":step_1", "step_1"), (":step_1_2", "step_1_2")])
async def test_a_checkpoint_is_found_by_step_and_by_name(yard: Yard, form: str, expected: str) -> None:
    run_id = await trained(yard)
    await yard.service.saving.save_state(ANN, run_id, types.SaveStateRequest())
    if expected == "step_1_2":
        await yard.service.saving.save_state(ANN, run_id, types.SaveStateRequest())
    await train(yard, ANN, run_id)
    await step(yard, ANN, run_id)
    found = await yard.service.adapters.resolve_adapter(ANN, run_id + form)
    assert found is not None
    assert (found.name, found.step) == (run_id + form, 1)
    assert found.checkpoint_dir is not None
    assert found.checkpoint_dir.endswith(f"/runs/{run_id}/checkpoints/{expected}")


@pytest.mark.parametrize("form", ["@2", ":step_2", ":step_1_merged", "@", ":", ":../step_1", "@1:step_1", "x"])
async def test_a_name_that_is_no_checkpoints_is_none(yard: Yard, form: str) -> None:
    run_id = await trained(yard)
    await yard.service.saving.save_state(ANN, run_id, types.SaveStateRequest())
    await yard.service.saving.save_state(ANN, run_id, types.SaveStateRequest(mode="merged"))
    assert await yard.service.adapters.resolve_adapter(ANN, run_id + form) is None


@pytest.mark.parametrize("name", ["", MODEL, "run_0000000000000000", "run_", "runs/../x"])
async def test_a_name_that_is_no_runs_is_none(yard: Yard, name: str) -> None:
    assert await yard.service.adapters.resolve_adapter(ANN, name) is None


async def test_resolving_opens_the_run_in_a_restarted_engine(yard: Yard) -> None:
    run_id = await trained(yard)
    yard.engine.die()
    assert await yard.service.adapters.resolve_adapter(ANN, run_id) is not None
    assert (await yard.engine.run_state(run_id)).current_step == 1


async def test_a_completed_run_stays_a_model(yard: Yard) -> None:
    run_id = await trained(yard)
    await yard.service.runs.complete(ANN, run_id)
    assert [one.run_id for one in await yard.service.adapters.list_adapters(ANN)] == [run_id]
    assert await yard.service.adapters.resolve_adapter(ANN, run_id, deadline_s=5.0) is not None


async def test_a_deadline_ends_the_search(yard: Yard) -> None:
    run_id = await trained(yard)
    yard.engine.latency_s = 5.0
    with pytest.raises(TimeoutError):
        await yard.service.adapters.resolve_adapter(ANN, run_id, deadline_s=0.05)
