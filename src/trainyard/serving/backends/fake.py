"""The backend that ships for tests and demonstrations: it says the prompt's own words back, in order."""

import math
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from trainyard.core import errors
from trainyard.engine.detokenizer import StopFinder
from trainyard.engine.generation import DrawnToken, TextFinish, TextPiece
from trainyard.serving.backends import budget
from trainyard.serving.types import Ask, Chat, Prompt, Target

CONTEXT_TOKENS = 4096
_WORD = re.compile(r"\s*\S+")


@dataclass(frozen=True, slots=True)
class FakePrompt:
    """Implements `Prepared`: one token per word, each certain (logprob 0), whatever temperature and seed say."""

    words: tuple[str, ...]
    max_tokens: int
    stop: tuple[str, ...]
    logprobs: int

    @property
    def prompt_tokens(self) -> int:
        """Number of words."""
        return len(self.words)

    async def stream(self, choice: int) -> AsyncGenerator[TextPiece, None]:
        """Say the words back; every choice is the same."""
        finder = StopFinder(self.stop)
        said = self.words[: self.max_tokens]
        for at, word in enumerate(said):
            text = finder.push(word)
            token = () if finder.is_found else (self._token(at),)
            is_last = at == len(said) - 1
            finish: TextFinish | None = "stop" if finder.is_found else None
            if is_last and finish is None:
                text += finder.flush()
                finish = "length" if len(self.words) > self.max_tokens else "stop"
            yield TextPiece(
                text=text, tokens=token, finish_reason=finish, completion_tokens=at + 1, weights_version="base"
            )
            if finish:
                return

    def token_bytes(self, token_id: int) -> bytes:
        """Give the word; ids count the words of the prompt."""
        return self.words[token_id].encode()

    def _token(self, at: int) -> DrawnToken:
        if self.logprobs < 0:
            return DrawnToken(at, math.nan, ())
        return DrawnToken(at, 0.0, ((at, 0.0),) if self.logprobs else ())


class FakeBackend:
    """Implements `TextBackend` without a model."""

    async def prepare(self, target: Target, ask: Ask) -> Sequence[FakePrompt]:
        """Count words; token ids are refused, since there is no vocabulary."""
        return [_prepare(prompt, ask) for prompt in ask.prompts]


def _prepare(prompt: Prompt, ask: Ask) -> FakePrompt:
    text = prompt.messages[-1]["content"] if isinstance(prompt, Chat) else prompt
    if not isinstance(text, str):
        raise errors.InvalidRequest("A fake model has no vocabulary; send text instead of token ids", param=ask.param)
    words = tuple(_WORD.findall(text)) or ("(silence)",)
    limit = budget.answer_tokens(ask, len(words), CONTEXT_TOKENS)
    return FakePrompt(words, limit, ask.stop, ask.logprobs)
