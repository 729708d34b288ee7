"""Tiny random models made by transformers, and calls on them."""

import random
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from trainyard.core import errors
from trainyard.engine import types
from trainyard.engine.calls import ForwardBackward
from trainyard.engine.trainer import Trainer
from trainyard.testing import run_specs

VOCAB = 96
PEFT_WARNING = "ignore:.is_gradient_checkpointing. is deprecated:FutureWarning"
"""peft reads an attribute that transformers 5 renames; not ours to change."""
_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.15,  # large enough that every part of a layer shows in the logits
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    "llama_biased": ("Llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama_linear_rope": ("Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 4.0}}),
    "llama3_rope": ("Llama", {"rope_parameters": _LLAMA3}),
    "llama_all_heads": ("Llama", {"num_key_value_heads": 4}),
    "qwen2": ("Qwen2", {}),
    "qwen2_windows": ("Qwen2", {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
    "mistral": ("Mistral", {"sliding_window": None, "head_dim": 16}),
    "mistral_window": ("Mistral", {"sliding_window": 9}),
}


def save_random(family: str, directory: Path, seed: int = 0) -> Path:
    """Write a random model of a family; biases and norms are random too."""
    name, changes = FAMILIES[family]
    torch.manual_seed(seed)
    config = getattr(transformers, f"{name}Config")(**(_COMMON | changes))
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(directory)
    return directory


def reference(directory: Path) -> Any:
    """Load the directory with transformers, float32, for evaluation."""
    return transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


def run_spec(name: str, directory: Path | None = None, **changes: Any) -> types.RunSpec:
    """Describe a run of rank 4 on all projections, changed as asked."""
    fields = {"learning_rate": 1e-2, "weight_decay": 0.01, "seed": 7} | changes
    return run_specs.make(name, directory or tempfile.mkdtemp(), **fields)


def data(lengths: Iterable[int], seed: int, share: float = 1.0, vocab: int = VOCAB) -> list[types.Datum]:
    """Draw sequences with weights in [0.5, 1.5] on a share of the positions, 0 on the others."""
    rng = random.Random(seed)
    out = []
    for length in lengths:
        ids = [rng.randrange(vocab) for _ in range(length + 1)]
        weights = [rng.uniform(0.5, 1.5) if rng.random() < share else 0.0 for _ in range(length)]
        weights[rng.randrange(length)] = 1.0
        out.append(
            types.Datum(tokens=types.int32(ids[:-1]), targets=types.int32(ids[1:]), weights=types.float32(weights))
        )
    return out


def call(run_id: str, batch: list[types.Datum], *, accumulate: bool = False) -> ForwardBackward:
    """Ask for the gradients of a batch."""
    return ForwardBackward(run_id=run_id, data=batch, accumulate=accumulate, loss_fn="causal_lm")


def train(trainer: Trainer, calls: Sequence[ForwardBackward]) -> list[types.ForwardBackwardResult]:
    """Run one pass to its end; an error of any call is raised."""
    running = trainer.begin(list(calls))
    while not running.step():
        pass
    out = []
    for result in running.results():
        if isinstance(result, errors.TrainyardError):
            raise result
        out.append(result)
    return out


def randomise(trainer: Trainer, run_id: str, seed: int = 5) -> None:
    """Move B away from zero, so that every gradient is alive."""
    flat = trainer.run(run_id).weights.flat
    flat.add_(torch.randn(flat.shape, generator=torch.Generator().manual_seed(seed)) * 0.1)


def held(trainer: Trainer, run_id: str) -> torch.Tensor:
    """Copy the mean gradient that a run holds."""
    run = trainer.run(run_id)
    assert run.held is not None
    return run.held.flat / run.pending_weight


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Give max difference / max value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())
