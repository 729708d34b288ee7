import asyncio

import pytest

from tests.unit.training.yard import CONTEXT, MODEL, Yard, new_run, principal, step, train
from trainyard.core import errors
from trainyard.core.catalog import ModelRegistry
from trainyard.engine import calls
from trainyard.engine import types as engine_types
from trainyard.engine.fake import FakeEngine
from trainyard.training import types
from trainyard.training.service.sessions import MAX_ENDED_OPEN
from trainyard.training.types import RunState

ANN = principal("ann")
BOB = principal("bob")
ROOT = principal("root", scopes=("train", "admin"))


async def create(yard: Yard, **config: object) -> types.RunResponse:
    return await yard.service.runs.create(ANN, types.RunConfig.model_validate({"base_model": MODEL, **config}))


async def test_a_created_run_is_active_and_shows_what_takes_effect(yard: Yard) -> None:
    run = await create(yard)
    assert (run.status, run.user_id, run.base_model) == (RunState.ACTIVE, "ann", MODEL)
    assert (run.config.max_seq_length, run.config.lora_alpha, run.config.optimizer) == (2048, 64, "adamw")
    assert (run.config.bf16, run.config.gradient_checkpointing) == (False, False)
    assert len(run.config.lora_target_modules) == 7


@pytest.mark.parametrize(
    ("given", "field", "expected"),
    [
        ({"warmup_steps": 4}, "lr_scheduler", "constant_with_warmup"),
        ({"lr_scheduler": "cosine", "lr_total_steps": 9}, "lr_scheduler", "cosine"),
        ({"bf16": True}, "bf16", True),
        ({"gradient_checkpointing": True}, "gradient_checkpointing", True),
        ({"max_seq_length": CONTEXT}, "max_seq_length", CONTEXT),
        ({"seed": 5}, "seed", 5),
        ({"lora_target_modules": ["v_proj", "q_proj"]}, "lora_target_modules", ["v_proj", "q_proj"]),
    ],
)
async def test_what_is_asked_for_takes_effect(
    yard: Yard, given: dict[str, object], field: str, expected: object
) -> None:
    assert getattr((await create(yard, **given)).config, field) == expected


async def test_the_engine_is_told_the_configuration(yard: Yard) -> None:
    run = await create(yard, lora_r=4, lora_alpha=8, seed=3, learning_rate=0.5, weight_decay=0.25)
    opened = next(call.spec for call in yard.engine.seen if isinstance(call, calls.OpenRun))
    assert (opened.lora_r, opened.lora_alpha, opened.seed) == (4, 8.0, 3)
    assert (opened.learning_rate, opened.weight_decay) == (0.5, 0.25)
    assert opened.state_dir == str(yard.settings.data_dir.absolute() / "runs" / run.run_id / "state")


async def test_a_length_over_the_context_is_refused_with_the_context(yard: Yard) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"at most 4096") as refused:
        await create(yard, max_seq_length=4097)
    assert refused.value.param == "max_seq_length"


async def test_a_gpu_wish_is_recorded_and_shown_as_not_applied(yard: Yard) -> None:
    run = await create(yard, gpu_config="H100:2")
    assert run.config.gpu_config == "H100:2"
    assert (run.gpu.requested, run.gpu.applied) == ("H100:2", False)
    assert "engine.device" in run.gpu.reason


@pytest.mark.parametrize(("name", "says"), [("org/none", "not supported"), ("yard/frozen", "not trainable")])
async def test_a_model_that_is_not_trained_here_is_refused_with_those_that_are(
    yard: Yard, name: str, says: str
) -> None:
    with pytest.raises(errors.UnknownModel, match=f"{says}.*{MODEL}") as refused:
        await create(yard, base_model=name)
    assert refused.value.param == "base_model"
    assert yard.service.runs.models().models == [MODEL]


async def test_an_alias_becomes_the_name(yard: Yard) -> None:
    assert (await create(yard, base_model="yard/alias")).base_model == MODEL


class ShutEngine(FakeEngine):
    """Describes itself but opens no run."""

    async def open_run(self, spec: engine_types.RunSpec) -> engine_types.RunState:
        raise errors.Unavailable("no memory is left", code="engine_restarting")


async def test_a_run_that_its_engine_cannot_open_has_failed_and_holds_no_place(yard: Yard) -> None:
    yard.engine = ShutEngine(MODEL)
    yard.service = yard.new_service()
    for _ in range(6):
        with pytest.raises(errors.Unavailable):
            await create(yard)
    listed = (await yard.service.runs.list_own(ANN)).runs
    assert [run.status for run in listed] == [RunState.FAILED] * 6
    assert (await yard.service.runs.status(ANN, listed[0].run_id)).error == "no memory is left"


async def test_the_limit_is_that_of_the_settings(yard: Yard) -> None:
    for _ in range(5):
        await create(yard)
    with pytest.raises(errors.LimitReached) as refused:
        await create(yard)
    assert refused.value.code == "too_many_runs"


async def test_a_stranger_is_forbidden_and_an_unknown_run_not_found(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    with pytest.raises(errors.Forbidden):
        await yard.service.runs.status(BOB, run_id)
    with pytest.raises(errors.Forbidden):
        await yard.service.runs.status(principal("ann", tenant="other"), run_id)
    for unknown in ("run_0000000000000000", "nonsense", "run_../../etc"):
        with pytest.raises(errors.NotFound):
            await yard.service.runs.status(ANN, unknown)


async def test_an_administrator_reads_a_run_but_does_not_train_it(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    assert (await yard.service.runs.status(ROOT, run_id)).run_id == run_id
    assert (await yard.service.runs.metrics(ROOT, run_id)).metrics == []
    with pytest.raises(errors.Forbidden):
        await train(yard, ROOT, run_id)
    with pytest.raises(errors.Forbidden):
        await yard.service.runs.complete(ROOT, run_id)


async def test_an_administrator_of_another_tenant_is_a_stranger(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    elsewhere = principal("root", tenant="other", scopes=("train", "admin"))
    same_name = principal("ann", tenant="other", scopes=("train", "admin"))
    for who in (elsewhere, same_name):
        with pytest.raises(errors.Forbidden):
            await yard.service.runs.status(who, run_id)
        with pytest.raises(errors.Forbidden):
            await yard.service.saving.artifacts(who, run_id)


async def test_status_answers_while_the_engine_is_away(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    await train(yard, ANN, run_id)
    await step(yard, ANN, run_id)
    yard.engine.fail_next(errors.Unavailable("away", code="engine_restarting"))
    status = await yard.service.runs.status(ANN, run_id)
    assert (status.engine, status.current_step, status.pending_tokens) == ("engine_restarting", 1, None)
    assert (await yard.service.runs.status(ANN, run_id)).engine == "ready"


async def test_status_charges_nothing(yard: Yard) -> None:
    status = await yard.service.runs.status(ANN, await new_run(yard, ANN))
    assert (status.cost_so_far, status.charged_so_far, status.cost_per_hour) == (0.0, 0.0, 0.0)


async def test_a_completed_run_trains_no_more_but_samples(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    await train(yard, ANN, run_id)
    await step(yard, ANN, run_id)
    done = await yard.service.runs.complete(ANN, run_id)
    assert (done.success, done.status, done.message) == (True, RunState.COMPLETED, None)
    for act in (train(yard, ANN, run_id), step(yard, ANN, run_id)):
        with pytest.raises(errors.Conflict) as refused:
            await act
        assert refused.value.code == "run_not_active"
    drawn = await yard.service.sampling.sample(ANN, run_id, types.SampleRequest(prompts=["a"], max_tokens=1))
    assert drawn.weights_versions == [f"{run_id}@1"]
    saved = await yard.service.saving.save_state(ANN, run_id, types.SaveStateRequest())
    assert saved.step == 1
    status = await yard.service.runs.status(ANN, run_id)
    assert (status.engine, status.current_step, status.durable_step) == ("closed", 1, 1)
    assert status.completed_at is not None


async def test_completing_says_what_it_drops_and_that_it_was_done_before(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    await train(yard, ANN, run_id, "hello")
    first = await yard.service.runs.complete(ANN, run_id)
    again = await yard.service.runs.complete(ANN, run_id)
    assert first.message == "Gradients of 4 tokens waited for optim_step and were dropped"
    assert again.message is not None
    assert "before" in again.message


async def test_completing_waits_for_the_engine_to_come_back(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    yard.engine.fail_next(errors.Unavailable("away", code="engine_restarting"))
    with pytest.raises(errors.Unavailable):
        await yard.service.runs.complete(ANN, run_id)
    assert (await yard.service.runs.status(ANN, run_id)).status is RunState.ACTIVE


async def test_a_failed_run_cannot_be_completed_sampled_or_saved(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    yard.registry.update_run(run_id, status=RunState.FAILED, error="why")
    acts = (
        yard.service.runs.complete(ANN, run_id),
        yard.service.sampling.sample(ANN, run_id, types.SampleRequest(prompts=["a"])),
        yard.service.saving.save_state(ANN, run_id, types.SaveStateRequest()),
    )
    for act in acts:
        with pytest.raises(errors.Conflict) as refused:
            await act
        assert refused.value.code == "run_not_active"
    assert (await yard.service.runs.status(ANN, run_id)).error == "why"


async def test_a_creation_that_a_crash_interrupted_is_failed_at_the_next_start(yard: Yard) -> None:
    config = (await create(yard)).config
    half = yard.registry.create_run("ann", MODEL, config.model_dump())
    assert await yard.new_service().recover() == [half]
    assert (await yard.service.runs.status(ANN, half)).status is RunState.FAILED


async def test_a_run_survives_a_restart_of_server_and_engine(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    await train(yard, ANN, run_id)
    await step(yard, ANN, run_id)
    yard.engine.die()
    yard.service = yard.new_service()
    await train(yard, ANN, run_id)
    assert (await step(yard, ANN, run_id)).step == 2
    assert [entry["step"] for entry in (await yard.service.runs.metrics(ANN, run_id)).metrics] == [1, 2]


async def test_a_creation_that_is_cut_short_holds_no_place(yard: Yard) -> None:
    yard.engine.latency_s = 0.05
    for number in range(1, 7):  # one more than the limit
        wanted = types.RunConfig.model_validate({"base_model": MODEL})
        creating = asyncio.ensure_future(yard.service.runs.create(ANN, wanted))
        while sum(isinstance(call, calls.OpenRun) for call in yard.engine.seen) < number:
            await yard.service.runs.list_own(ANN)
        creating.cancel()
        await asyncio.gather(creating, return_exceptions=True)
    assert {run.status for run in (await yard.service.runs.list_own(ANN)).runs} == {"failed"}


async def test_a_run_whose_base_model_left_the_catalog_can_be_completed(yard: Yard) -> None:
    run_id = await new_run(yard, ANN)
    (yard.settings.data_dir.parent / "models.yaml").write_text("models: [{name: yard/other, path: bytes}]")
    yard.models = ModelRegistry(yard.settings.data_dir.parent / "models.yaml")
    completed = await yard.new_service().runs.complete(ANN, run_id)
    assert (completed.status, completed.message) == (
        "completed",
        "yard/bytes left the catalog; the run ends as it lies on disk",
    )


async def test_runs_that_ended_do_not_pile_up_in_the_engine(yard: Yard) -> None:
    request = types.SampleRequest(prompts=["a"], max_tokens=1)
    ended = []
    for _ in range(MAX_ENDED_OPEN + 2):
        ended.append(run_id := await new_run(yard, ANN))
        await yard.service.runs.complete(ANN, run_id)
        await yard.service.sampling.sample(ANN, run_id, request)
    assert (await yard.engine.stats()).open_runs == MAX_ENDED_OPEN
    again = await yard.service.sampling.sample(ANN, ended[0], request)
    assert again.weights_versions == [f"{ended[0]}@0"]
    assert (await yard.engine.stats()).open_runs == MAX_ENDED_OPEN
