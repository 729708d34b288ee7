"""The engine on an accelerator: the same functions, in bfloat16, near what the CPU computes in float32."""

from pathlib import Path

import pytest
import torch

from tests.contract.engine import tiny_models as tiny
from trainyard.engine import loading, types
from trainyard.engine.core import EngineCore
from trainyard.engine.trainer import Trainer

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: torch sees none on this machine")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_random("qwen3", tmp_path_factory.mktemp("model"))


def test_logits_in_float32_equal_the_cpu(directory: Path) -> None:
    tokens = torch.randint(tiny.VOCAB, (2, 50), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        here = loading.load_decoder(directory)(tokens)
        there = loading.load_decoder(directory, device="cuda")(tokens.cuda()).cpu()
    assert (here - there).abs().max() < 1e-3


def test_gradients_in_float32_equal_the_cpu(directory: Path) -> None:
    found = []
    for device in ("cpu", "cuda"):
        trainer = Trainer(loading.load_decoder(directory, device=device))
        trainer.open_run(tiny.run_spec("run_0", lora_dropout=0.0))
        trainer.open_run(tiny.run_spec("run_1", lora_r=8))
        tiny.train(trainer, [tiny.call(f"run_{i}", tiny.data((9, 30), seed=i, share=0.5)) for i in range(2)])
        found.append(tiny.held(trainer, "run_0").cpu())
    assert tiny.relative(found[1], found[0]) < 1e-3


@pytest.mark.parametrize("optimizer", ["adamw", "adamw_8bit"])
def test_a_run_in_bfloat16_learns_is_sampled_and_resumes(directory: Path, tmp_path: Path, optimizer: str) -> None:
    core = EngineCore(directory, "tiny", device="cuda")
    assert (core.info().dtype, core.info().bf16_default) == ("bfloat16", True)
    spec = tiny.run_spec("run_0", tmp_path / "run", optimizer=optimizer, bf16=True, gradient_checkpointing=True)
    core.open_run(spec)
    losses = []
    for _ in range(20):
        running = core.begin_training([tiny.call("run_0", tiny.data((20, 30), seed=3))])
        while not running.step():
            pass
        (result,) = running.results()
        assert isinstance(result, types.ForwardBackwardResult)
        losses.append(result.loss)
        core.optim_step("run_0")
    assert losses[-1] < 0.8 * losses[0]
    sampling = types.Sampling(max_tokens=8, temperature=0.0, logprobs=1)
    core.admit(types.GenerateRequest(stream_id="a", prompt=types.int32([1, 2]), sampling=sampling, run_id="run_0"))
    core.admit(types.GenerateRequest(stream_id="b", prompt=types.int32([1, 2, 3]), sampling=sampling))
    events = []
    while core.has_streams:
        events += core.tick()
    assert len(events) == 16
    core.close_run("run_0")
    assert core.open_run(spec).current_step == 20
