"""One sequence that is being continued."""

import random
from dataclasses import dataclass, field

import torch

from trainyard.engine import sampling as drawing
from trainyard.engine.adapters import AdapterTensors
from trainyard.engine.grammar import GrammarState
from trainyard.engine.types import FinishReason, Sampling, TokenEvent, float32


@dataclass(eq=False)
class Stream:
    """A request with everything that belongs to it alone.

    Attributes:
        prompt_P: int64, on the model's device.
        weights: Of the moment of its admission; None = base model.
        limit: Tokens to draw at most, the end of the context considered.
        slot: Its place in the cache, -1 while it waits.
        read: Prompt tokens that are in the cache.
        drawn: Tokens drawn so far; `last` is the newest.
        grammar: Where the answer stands in its grammar, if it has one.
        counts: How often each token was drawn; kept where a penalty asks for it.
    """

    stream_id: str
    prompt_P: torch.Tensor
    sampling: Sampling
    weights: AdapterTensors | None
    version: str
    limit: int
    slot: int = -1
    read: int = 0
    drawn: int = 0
    last: int = -1
    prompt_logprobs: list[float] = field(default_factory=list)
    grammar: GrammarState | None = None
    counts: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = random.Random(self.sampling.seed)  # noqa: S311 - sampling, not a secret
        if self.sampling.prompt_logprobs:
            self.prompt_logprobs.append(float("nan"))

    def uniform(self) -> float:
        """Draw from the stream's own generator."""
        return self._random.random()

    def choose(self, token: int) -> int:
        """Let the grammar have the last word on a drawn token."""
        return token if self.grammar is None else self.grammar.take(token)

    def take(self, token: int, logprob: float, top: tuple[tuple[int, float], ...]) -> TokenEvent:
        """Count a drawn token and tell it."""
        self.drawn += 1
        self.last = token
        if drawing.is_penalised(self.sampling):
            self.counts[token] = self.counts.get(token, 0) + 1
        finish: FinishReason | None = None
        if token in self.sampling.stop_token_ids or (self.grammar is not None and self.grammar.is_over):
            finish = "stop"
        elif self.drawn >= self.limit:
            finish = "length"
        return TokenEvent(
            token=token,
            logprob=logprob,
            top=top,
            finish=finish,
            weights_version=self.version,
            prompt_logprobs=float32(self.prompt_logprobs) if self.drawn == 1 else b"",
        )
