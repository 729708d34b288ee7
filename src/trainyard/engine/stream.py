"""One sequence that is being continued."""

import random
from dataclasses import dataclass, field

from trainyard.engine import sampling as drawing
from trainyard.engine.adapters import AdapterTensors
from trainyard.engine.grammar import GrammarState
from trainyard.engine.kv_cache import Blocks
from trainyard.engine.types import FinishReason, Sampling, TokenEvent, float32


@dataclass(eq=False)
class Stream:
    """A request with everything that belongs to it alone.

    Attributes:
        text: The prompt and, behind it, what was drawn.
        blocks: Where its keys and values are.
        weights: Of the moment of its admission; None = base model.
        limit: Tokens to draw at most, the end of the context considered.
        number: Order of admission.
        drawn: Tokens drawn so far; `last` is the newest.
        found: Tokens of the prompt that were found computed.
        grammar: Where the answer stands in its grammar, if it has one.
        counts: How often each token was drawn; kept where a penalty asks for it.
    """

    stream_id: str
    text: list[int]
    blocks: Blocks
    sampling: Sampling
    weights: AdapterTensors | None
    version: str
    limit: int
    number: int = 0
    drawn: int = 0
    last: int = -1
    found: int = 0
    prompt_logprobs: list[float] = field(default_factory=list)
    grammar: GrammarState | None = None
    counts: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._prompt_length = len(self.text)
        self._random = random.Random(self.sampling.seed)  # noqa: S311 - sampling, not a secret
        if self.sampling.prompt_logprobs:
            self.prompt_logprobs.append(float("nan"))

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt."""
        return self._prompt_length

    @property
    def longest(self) -> int:
        """Tokens whose keys and values are needed at most; the last one that is drawn is never fed."""
        return self._prompt_length + self.limit - 1

    @property
    def goal(self) -> int:
        """Tokens to compute before the stream decodes: all but the newest one that it drew."""
        return len(self.text) - (self.drawn > 0)

    @property
    def is_read(self) -> bool:
        """Whether it decodes: its first token is drawn and all before the newest are computed."""
        return self.drawn > 0 and self.blocks.tokens == len(self.text) - 1

    @property
    def findable(self) -> int:
        """Tokens that may be found computed; the last of a prompt is computed for its logits, all for log-probs."""
        if self.drawn:
            return self.goal
        return 0 if self.sampling.prompt_logprobs else self._prompt_length - 1

    def forget_progress(self) -> None:
        """Begin to read again; what was drawn stays."""
        if not self.drawn:
            self.found = 0
            del self.prompt_logprobs[1:]

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
        self.text.append(token)
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
            cached_tokens=self.found if self.drawn == 1 else 0,
        )
