"""Row d: a packed step gives every run the gradients it would get alone, and micro-batches add up to one batch."""

from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from tests.contract.engine import tiny_models as tiny
from trainyard.core import errors
from trainyard.engine import loading, types
from trainyard.engine.model import Decoder
from trainyard.engine.trainer import Trainer

pytestmark = pytest.mark.filterwarnings(tiny.PEFT_WARNING)

LENGTHS = (5, 30, 9, 9, 17)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_random("qwen2", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def decoder(directory: Path) -> Decoder:
    return loading.load_decoder(directory)


SPECS: list[dict[str, Any]] = [
    {"lora_r": 3, "lora_alpha": 6.0, "target_modules": ("q_proj", "v_proj")},
    {"lora_r": 8, "lora_alpha": 64.0},
    {"lora_r": 1, "lora_alpha": 2.0, "target_modules": ("down_proj", "gate_proj", "o_proj"), "lora_dropout": 0.2},
]


@pytest.mark.parametrize("changes", [{}, {"gradient_checkpointing": True}], ids=["kept", "checkpointed"])
@pytest.mark.parametrize("chunk_tokens", [40, 4096])
def test_runs_of_different_shape_packed_together_get_the_gradients_of_each_alone(
    decoder: Decoder, chunk_tokens: int, changes: dict[str, Any]
) -> None:
    together, alone = Trainer(decoder, chunk_tokens=chunk_tokens), Trainer(decoder, chunk_tokens=chunk_tokens)
    calls = []
    for i, fields in enumerate(SPECS):
        for trainer in (together, alone):
            trainer.open_run(tiny.run_spec(f"run_{i}", **fields, **changes))
            tiny.randomise(trainer, f"run_{i}")
        calls.append(tiny.call(f"run_{i}", tiny.data(LENGTHS, seed=i, share=0.6)))
    packed = tiny.train(together, calls)
    for i, call in enumerate(calls):
        (single,) = tiny.train(alone, [call])
        assert packed[i].loss == pytest.approx(single.loss, rel=1e-6)
        assert tiny.relative(tiny.held(together, f"run_{i}"), tiny.held(alone, f"run_{i}")) <= 1e-5
    shared = [result.packed_runs for result in packed]
    assert shared == [3, 3, 3] if chunk_tokens == 4096 else max(shared) >= 2


@pytest.mark.parametrize("family", ["llama_biased", "qwen2_windows", "qwen3", "mistral_window"])
def test_gradients_and_loss_equal_peft_on_transformers(family: str, tmp_path: Path) -> None:
    directory = tiny.save_random(family, tmp_path)
    trainer = Trainer(loading.load_decoder(directory), chunk_tokens=40)
    run = trainer.open_run(tiny.run_spec("run_0"))
    tiny.randomise(trainer, "run_0")
    batch = tiny.data(LENGTHS, seed=3, share=0.5)
    (result,) = tiny.train(trainer, [tiny.call("run_0", batch)])
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=list(types.PROJECTIONS))
    theirs = peft.get_peft_model(tiny.reference(directory), config)
    named = dict(theirs.named_parameters())
    pairs = []
    assert run.held is not None
    for mine, grad in zip(run.weights.projections(), run.held.projections(), strict=True):
        name = f"base_model.model.{loading.module_name(*mine[:3])}"
        for kind, index in (("A", 3), ("B", 4)):
            parameter = named[f"{name}.lora_{kind}.default.weight"]
            parameter.data.copy_(mine[index])
            pairs.append((grad[index], parameter))
    total = torch.zeros(())
    for datum in batch:
        logits = theirs(torch.tensor([types.read_int32(datum.tokens)])).logits[0]
        nll = torch.nn.functional.cross_entropy(logits, torch.tensor(types.read_int32(datum.targets)), reduction="none")
        total = total + (nll * torch.tensor(types.read_float32(datum.weights))).sum()
    torch.autograd.backward(total)
    assert result.loss_sum == pytest.approx(float(total.detach()), rel=1e-5)
    largest = max(float(parameter.grad.abs().max()) for _, parameter in pairs)
    assert max(float((ours - parameter.grad).abs().max()) for ours, parameter in pairs) / largest <= 1e-5


def test_accumulated_micro_batches_of_unequal_size_equal_one_batch(decoder: Decoder) -> None:
    batch = tiny.data((5, 30, 9, 14, 2, 21), seed=4, share=0.5)
    whole, parts = Trainer(decoder), Trainer(decoder)
    for trainer in (whole, parts):
        trainer.open_run(tiny.run_spec("run_0"))
        tiny.randomise(trainer, "run_0")
    (one,) = tiny.train(whole, [tiny.call("run_0", batch)])
    for i, piece in enumerate((batch[:1], batch[1:4], batch[4:])):
        (last,) = tiny.train(parts, [tiny.call("run_0", piece, accumulate=i > 0)])
    assert tiny.relative(tiny.held(parts, "run_0"), tiny.held(whole, "run_0")) <= 1e-5
    assert last.grad_norm == pytest.approx(one.grad_norm, rel=1e-5)
    assert parts.run("run_0").pending_tokens == whole.run("run_0").pending_tokens
    norms = [trainer.optim_step("run_0").weight_norm for trainer in (whole, parts)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-6)


def test_two_calls_of_one_run_in_one_pass_are_applied_in_order(decoder: Decoder) -> None:
    trainer = Trainer(decoder)
    trainer.open_run(tiny.run_spec("run_0"))
    first, second = tiny.data((9,), seed=1), tiny.data((11,), seed=2)
    tiny.train(trainer, [tiny.call("run_0", first), tiny.call("run_0", second, accumulate=True)])
    both = tiny.held(trainer, "run_0")
    tiny.train(trainer, [tiny.call("run_0", first + second)])
    assert tiny.relative(both, tiny.held(trainer, "run_0")) <= 1e-5


def test_not_accumulating_replaces_what_was_held(decoder: Decoder) -> None:
    trainer = Trainer(decoder)
    trainer.open_run(tiny.run_spec("run_0"))
    batch = tiny.data((9, 4), seed=1)
    tiny.train(trainer, [tiny.call("run_0", tiny.data((30,), seed=2))])
    tiny.train(trainer, [tiny.call("run_0", batch)])
    replaced = tiny.held(trainer, "run_0")
    trainer.run("run_0").drop_gradients()
    tiny.train(trainer, [tiny.call("run_0", batch)])
    assert torch.equal(replaced, tiny.held(trainer, "run_0"))


def test_a_bad_call_fails_alone_and_leaves_its_held_gradients(decoder: Decoder) -> None:
    trainer = Trainer(decoder)
    for name in ("run_0", "run_1"):
        trainer.open_run(tiny.run_spec(name))
    tiny.train(trainer, [tiny.call("run_0", tiny.data((9,), seed=1))])
    before = tiny.held(trainer, "run_0")
    running = trainer.begin(
        [tiny.call("run_0", tiny.data((9,), seed=1, vocab=tiny.VOCAB * 9)), tiny.call("run_1", tiny.data((9,), seed=1))]
    )
    while not running.step():
        pass
    bad, good = running.results()
    assert isinstance(bad, errors.InvalidRequest)
    assert isinstance(good, types.ForwardBackwardResult)
    assert torch.equal(before, tiny.held(trainer, "run_0"))


def test_a_dropped_pass_changes_nothing(decoder: Decoder) -> None:
    trainer = Trainer(decoder)
    run = trainer.open_run(tiny.run_spec("run_0"))
    before = run.weights.flat.clone()
    next(trainer.begin([tiny.call("run_0", tiny.data((9,), seed=1))])._progress)
    assert run.held is None
    assert torch.equal(run.weights.flat, before)


def test_bfloat16_gradients_are_near_those_of_float32_and_are_held_in_float32(decoder: Decoder) -> None:
    trainer = Trainer(decoder)
    batch = tiny.data((30, 20), seed=6)
    for name, is_bf16 in (("run_16", True), ("run_32", False)):
        trainer.open_run(tiny.run_spec(name, bf16=is_bf16))
        tiny.randomise(trainer, name)
    results = tiny.train(trainer, [tiny.call("run_16", batch), tiny.call("run_32", batch)])
    assert [result.packed_runs for result in results] == [1, 1]
    half, full = tiny.held(trainer, "run_16"), tiny.held(trainer, "run_32")
    assert half.dtype == torch.float32
    assert not torch.equal(half, full)
    assert torch.nn.functional.cosine_similarity(half, full, dim=0) > 0.995


def test_dropout_drops_the_stated_share_and_moves_on_with_each_call(decoder: Decoder) -> None:
    trainer = Trainer(decoder)
    trainer.open_run(tiny.run_spec("run_0", lora_dropout=0.5))
    tiny.randomise(trainer, "run_0")
    batch = tiny.data((30,), seed=6)
    losses = [tiny.train(trainer, [tiny.call("run_0", batch)])[0].loss for _ in range(2)]
    assert losses[0] != losses[1]


def test_a_call_that_is_taken_back_from_a_pass_changes_nothing_and_the_others_get_theirs(decoder: Decoder) -> None:
    trainer, alone = Trainer(decoder), Trainer(decoder)
    calls = [tiny.call(f"run_{i}", tiny.data(LENGTHS, seed=i)) for i in range(2)]
    for each in (trainer, alone):
        for call in calls:
            each.open_run(tiny.run_spec(call.run_id))
            tiny.randomise(each, call.run_id)
    tiny.train(trainer, [calls[0]])
    before = tiny.held(trainer, "run_0")
    running = trainer.begin([tiny.call("run_0", tiny.data(LENGTHS, seed=9)), calls[1]])
    running.withdraw(0)
    while not running.step():
        pass
    taken_back, kept = running.results()
    assert isinstance(taken_back, errors.Unavailable)
    assert isinstance(kept, types.ForwardBackwardResult)
    tiny.train(alone, [calls[1]])
    assert torch.equal(tiny.held(trainer, "run_0"), before)
    assert tiny.relative(tiny.held(trainer, "run_1"), tiny.held(alone, "run_1")) <= 1e-5
