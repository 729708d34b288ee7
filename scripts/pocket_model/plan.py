"""What one run of the command does: shape, budget, rates."""

from dataclasses import dataclass, replace

from trainyard.engine.config import ModelConfig


@dataclass(frozen=True)
class Plan:
    """A recipe.

    Attributes:
        threads: number of processes that train together, each with one thread.
        minutes: processor minutes that each process may train; ignored where steps is given. On free cores these are
            minutes by the clock, on busy ones they make the same amount of work.
        wall_minutes: minutes by the clock after which training ends in any case.
        steps: number of optimiser steps; 0 = train by the clock.
        long_after: share of the budget after which windows are long.
        long_share: share of long dialogues among the documents of long windows.
        checked: number of held-out requests that are measured.
    """

    seed: int = 7
    threads: int = 2
    minutes: float = 33.0
    wall_minutes: float = 36.0
    steps: int = 0
    vocab_size: int = 2048
    hidden: int = 256
    layers: int = 5
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 576
    max_positions: int = 2048
    batch_tokens: int = 2048
    short_window: int = 256
    long_window: int = 1024
    long_after: float = 0.8
    long_share: float = 0.1
    muon_rate: float = 0.006
    adamw_rate: float = 0.003
    tokenizer_documents: int = 60_000
    counted_documents: int = 20_000
    checked: int = 3_000

    def done(self, step: int, cpu_seconds: float, seconds: float) -> float:
        """Share of the budget that is spent."""
        if self.steps:
            return step / self.steps
        return max(cpu_seconds / (60 * self.minutes), seconds / (60 * self.wall_minutes))

    def config(self) -> ModelConfig:
        """Describe the decoder."""
        return ModelConfig(
            architecture="LlamaForCausalLM", vocab_size=self.vocab_size, hidden_size=self.hidden,
            intermediate_size=self.intermediate, layers=self.layers, heads=self.heads, kv_heads=self.kv_heads,
            head_dim=self.hidden // self.heads, max_positions=self.max_positions, rms_eps=1e-5, rope_theta=10000.0,
            tied_head=True, bos_token_id=0, eos_token_ids=(2, 0), pad_token_id=0,
        )  # fmt: skip

    def quick(self) -> "Plan":
        """Shrink everything, so that the whole path runs in seconds."""
        return replace(
            self, steps=8, vocab_size=512, hidden=64, layers=2, heads=2, kv_heads=1, intermediate=128,
            batch_tokens=2048, tokenizer_documents=1_500, counted_documents=3_000, checked=60,
        )  # fmt: skip
