"""What both sides of a benchmark share: the random base model and the plain transformers + PEFT loop."""

import atexit
import random
import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.shapes import ALPHA, RANK, Shape
from trainyard.engine import types
from trainyard.testing import run_specs

transformers.utils.logging.disable_progress_bar()
warnings.filterwarnings("ignore", message=".is_gradient_checkpointing. is deprecated", category=FutureWarning)


def scratch() -> Path:
    """Make a directory that goes with the process."""
    directory = Path(tempfile.mkdtemp(prefix="trainyard-bench-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def random_llama(shape: Shape) -> tuple[Path, Any]:
    """Write a random model and give its directory and transformers' own object of it."""
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape.config())).eval()
    directory = scratch()
    model.save_pretrained(directory)
    return directory, model


def examples(shape: Shape, rows: int, length: int, share: float) -> list[types.Datum]:
    """Draw equally long sequences whose last `share` of positions count, as an answer after its prompt does."""
    rng = random.Random(0)
    first = round(length * (1.0 - share))
    out = []
    for _ in range(rows):
        ids = [rng.randrange(shape.vocab) for _ in range(length + 1)]
        weights = [0.0] * first + [1.0] * (length - first)
        out.append(
            types.Datum(tokens=types.int32(ids[:-1]), targets=types.int32(ids[1:]), weights=types.float32(weights))
        )
    return out


def peft_step(model: Any, batch: list[types.Datum]) -> Callable[[], float]:
    """Build the step that a newcomer writes: forward with labels, backward, AdamW."""
    import peft

    config = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=list(types.PROJECTIONS), lora_dropout=0.0)
    adapted = peft.get_peft_model(model, config).train()
    parameters = [p for p in adapted.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=1e-4, weight_decay=0.01)
    tokens = torch.tensor([types.read_int32(d.tokens) for d in batch])
    targets = torch.tensor([types.read_int32(d.targets) for d in batch])
    weights = torch.tensor([types.read_float32(d.weights) for d in batch])
    labels = torch.where(weights > 0, targets, -100)

    def step() -> float:
        logits = adapted(input_ids=tokens, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
        torch.autograd.backward(loss)
        optimiser.step()
        optimiser.zero_grad()
        return float(loss.detach())

    return step


def run_spec() -> types.RunSpec:
    """Describe our run: the same rank, alpha, targets, rate and decay as the rival's."""
    return run_specs.make("run_0", scratch(), lora_r=RANK, lora_alpha=ALPHA, learning_rate=1e-4, weight_decay=0.01)
