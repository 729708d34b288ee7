"""A run that comes back: exactly as it was, at its last durable step, and honest about what is gone."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.contract.engine import tiny_models as tiny
from trainyard.core import errors
from trainyard.engine import durability, loading, types
from trainyard.engine.core import EngineCore
from trainyard.engine.model import Decoder
from trainyard.engine.trainer import Trainer


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_random("llama", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def decoder(model_dir: Path) -> Decoder:
    return loading.load_decoder(model_dir)


def step(trainer: Trainer, run_id: str, number: int) -> None:
    tiny.train(trainer, [tiny.call(run_id, tiny.data((12, 20), seed=number, share=0.7))])
    trainer.optim_step(run_id)


@pytest.mark.parametrize("optimizer", ["adamw", "adamw_8bit"])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(
    decoder: Decoder, tmp_path: Path, optimizer: str
) -> None:
    changes: dict[str, Any] = {
        "optimizer": optimizer,
        "lora_dropout": 0.3,
        "lr_scheduler": "cosine",
        "warmup_steps": 2,
        "lr_total_steps": 9,
    }
    whole, first, second = Trainer(decoder), Trainer(decoder), Trainer(decoder)
    whole.open_run(tiny.run_spec("run_0", tmp_path / "a", **changes))
    run = first.open_run(tiny.run_spec("run_0", tmp_path / "b", **changes))
    for number in range(6):
        step(whole, "run_0", number)
        if number < 3:
            step(first, "run_0", number)
    durability.write_state(run.snapshot())
    resumed = second.open_run(tiny.run_spec("run_0", tmp_path / "b", **changes))
    assert resumed.state().current_step == resumed.state().durable_step == 3
    assert resumed.state().rolled_back is None
    for number in range(3, 6):
        step(second, "run_0", number)
    assert torch.equal(resumed.weights.flat, whole.run("run_0").weights.flat)
    for name, tensor in whole.run("run_0").optimiser.state().items():
        assert torch.equal(resumed.optimiser.state()[name], tensor)


def test_a_crash_rolls_back_to_the_durable_step_and_says_so(decoder: Decoder, tmp_path: Path) -> None:
    spec, before, after = tiny.run_spec("run_0", tmp_path), Trainer(decoder), Trainer(decoder)
    run = before.open_run(spec)
    step(before, "run_0", 0)
    durability.write_state(run.snapshot())
    step(before, "run_0", 1)
    step(before, "run_0", 2)
    tiny.train(before, [tiny.call("run_0", tiny.data((9,), seed=3))])  # and then the process is gone
    state = after.open_run(spec).state()
    assert (state.current_step, state.durable_step, state.pending_tokens) == (1, 1, 0)
    assert state.rolled_back == types.RolledBack(from_step=3, to_step=1)
    assert state.gradients_lost
    for code in ("gradients_lost", "no_gradients"):
        with pytest.raises(errors.Conflict) as caught:
            after.optim_step("run_0")
        assert caught.value.code == code
    step(after, "run_0", 4)
    assert after.run("run_0").state().rolled_back is None


def test_lost_gradients_are_not_missed_when_they_are_replaced(decoder: Decoder, tmp_path: Path) -> None:
    spec, before, after = tiny.run_spec("run_0", tmp_path), Trainer(decoder), Trainer(decoder)
    before.open_run(spec)
    batch = tiny.data((9,), seed=3)
    tiny.train(before, [tiny.call("run_0", batch)])
    assert after.open_run(spec).state().gradients_lost
    tiny.train(after, [tiny.call("run_0", batch)])
    assert after.optim_step("run_0").step == 1


def test_adding_to_lost_gradients_is_refused_once(decoder: Decoder, tmp_path: Path) -> None:
    spec, before, after = tiny.run_spec("run_0", tmp_path), Trainer(decoder), Trainer(decoder)
    before.open_run(spec)
    batch = tiny.data((9,), seed=3)
    tiny.train(before, [tiny.call("run_0", batch)])
    after.open_run(spec)
    tiny.train(after, [tiny.call("run_0", batch, accumulate=True)])
    with pytest.raises(errors.Conflict, match="lost"):
        after.optim_step("run_0")
    assert after.optim_step("run_0").step == 1


def test_a_crash_between_any_two_writes_leaves_the_old_or_the_new_state(decoder: Decoder, tmp_path: Path) -> None:
    trainer = Trainer(decoder)
    run = trainer.open_run(tiny.run_spec("run_0", tmp_path))
    step(trainer, "run_0", 0)
    old = run.snapshot()
    durability.write_state(old)
    content = (tmp_path / durability.STATE).read_bytes()
    step(trainer, "run_0", 1)
    durability.write_state(run.snapshot())
    new = (tmp_path / durability.STATE).read_bytes()
    (tmp_path / durability.STATE).write_bytes(content)
    for size in (0, 7, 100, len(new) // 2, len(new) - 1, len(new)):  # died while or after writing, before the rename
        (tmp_path / f".{durability.STATE}.new").write_bytes(new[:size])
        found = durability.load_state(tmp_path)
        assert found is not None
        assert found.step == 1
        assert torch.equal(found.tensors["adapter"], old.tensors["adapter"])
    (tmp_path / f".{durability.STATE}.new").replace(tmp_path / durability.STATE)
    found = durability.load_state(tmp_path)
    assert found is not None
    assert found.step == 2


def test_a_damaged_state_is_an_error_and_not_a_fresh_start(decoder: Decoder, tmp_path: Path) -> None:
    (tmp_path / durability.STATE).write_bytes(b"not a state")
    with pytest.raises(errors.Conflict) as caught:
        Trainer(decoder).open_run(tiny.run_spec("run_0", tmp_path))
    assert caught.value.code == "state_unreadable"


@pytest.mark.parametrize(("field", "value"), [("lora_r", 5), ("seed", 8), ("optimizer", "adamw_8bit")])
def test_a_directory_of_another_run_is_refused(decoder: Decoder, tmp_path: Path, field: str, value: object) -> None:
    trainer = Trainer(decoder)
    durability.write_state(trainer.open_run(tiny.run_spec("run_0", tmp_path)).snapshot())
    with pytest.raises(errors.Conflict, match=field):
        Trainer(decoder).open_run(tiny.run_spec("run_0", tmp_path, **{field: value}))


def test_a_state_of_a_model_of_other_sizes_is_refused(decoder: Decoder, tmp_path: Path) -> None:
    wider = Trainer(loading.load_decoder(tiny.save_random("qwen3", tmp_path / "qwen3")))
    spec = tiny.run_spec("run_0", tmp_path / "run")
    durability.write_state(Trainer(decoder).open_run(spec).snapshot())
    with pytest.raises(errors.Conflict, match="does not fit") as caught:
        wider.open_run(spec)
    assert caught.value.code == "state_mismatch"


def test_a_learning_rate_of_the_call_counts_for_one_step_only(decoder: Decoder) -> None:
    trainer = Trainer(decoder)
    trainer.open_run(tiny.run_spec("run_0", learning_rate=0.01))
    batch = [tiny.call("run_0", tiny.data((9,), seed=3))]
    tiny.train(trainer, batch)
    assert trainer.optim_step("run_0", 0.5).learning_rate == 0.5
    tiny.train(trainer, batch)
    assert trainer.optim_step("run_0").learning_rate == 0.01


def test_a_step_lowers_the_loss(decoder: Decoder) -> None:
    trainer = Trainer(decoder)
    trainer.open_run(tiny.run_spec("run_0", optimizer="adamw_8bit"))
    batch = [tiny.call("run_0", tiny.data((20, 30), seed=3))]
    losses = []
    for _ in range(30):
        losses.append(tiny.train(trainer, batch)[0].loss)
        trainer.optim_step("run_0")
    assert losses[-1] < 0.7 * losses[0]


def test_the_core_counts_writes_and_forgets(model_dir: Path, tmp_path: Path) -> None:
    core = EngineCore(model_dir, "tiny", threads=1)
    spec = tiny.run_spec("run_0", tmp_path)
    assert core.open_run(spec).trainable_parameters == core.open_run(spec).trainable_parameters > 0
    assert core.snapshot_if_due("run_0", force=True) is None
    running = core.begin_training([tiny.call("run_0", tiny.data((9,), seed=3))])
    while not running.step():
        pass
    core.optim_step("run_0")
    snapshot = core.snapshot_if_due("run_0")
    assert snapshot is not None
    core.mark_durable("run_0", core.write_state(snapshot))
    assert core.run_state("run_0").durable_step == 1
    assert core.snapshot_if_due("run_0") is None
    assert (core.info().architecture, core.info().dtype, core.stats().open_runs) == ("LlamaForCausalLM", "float32", 1)
    assert core.close_run("run_0").durable_step == 1
    core.mark_durable("run_0", 5)
    with pytest.raises(errors.NotFound):
        core.run_state("run_0")
    assert core.open_run(spec).current_step == 1


@pytest.mark.parametrize("targets", [(), ("w_proj",)])
def test_targets_that_no_layer_has_are_refused(decoder: Decoder, targets: tuple[str, ...]) -> None:
    with pytest.raises(errors.InvalidRequest, match="q_proj, k_proj"):
        Trainer(decoder).open_run(tiny.run_spec("run_0", target_modules=targets))
