"""The backend that ships for tests and demonstrations: it says the prompt's own words back, in order."""

import hashlib
import re
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from trainyard.core import errors
from trainyard.engine.detokenizer import StopFinder
from trainyard.serving.backends import budget
from trainyard.serving.types import Ask, Chat, EmbedAsk, Finish, Piece, Prompt, Target, TokenInfo, Vectors, pieces

CONTEXT_TOKENS = 4096
DIMENSIONS = 64
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

    @property
    def keeps_time(self) -> bool:
        """True: it takes none."""
        return True

    async def stream(self, choice: int, timeout_s: float) -> AsyncGenerator[Piece, None]:
        """Say the words back; every choice is the same, and none takes time."""
        for piece in self._pieces():
            yield piece

    @property
    def drawn(self) -> int:
        """None before the end, since it takes no time."""
        return 0

    async def collect(self, choice: int, timeout_s: float) -> Piece:
        """Say them all at once."""
        return pieces.join(self._pieces())

    def _pieces(self) -> list[Piece]:
        finder = StopFinder(self.stop)
        said, made = self.words[: self.max_tokens], list[Piece]()
        for at, word in enumerate(said):
            text = finder.push(word)
            tokens = () if finder.is_found else self._tokens(word)
            finish: Finish | None = "stop" if finder.is_found else None
            if at == len(said) - 1 and finish is None:
                text += finder.flush()
                finish = "length" if len(self.words) > self.max_tokens else "stop"
            made.append(Piece(text=text, tokens=tokens, finish_reason=finish, completion_tokens=at + 1))
            if finish:
                break
        return made

    def _tokens(self, word: str) -> tuple[TokenInfo, ...]:
        if self.logprobs < 0:
            return ()
        raw = word.encode()
        return (TokenInfo(raw, 0.0, ((raw, 0.0),) if self.logprobs else ()),)


class FakeBackend:
    """Implements `TextBackend` without a model."""

    async def prepare(self, target: Target, ask: Ask) -> Sequence[FakePrompt]:
        """Count words; token ids are refused, since there is no vocabulary, and so are forms and tools."""
        if ask.form is not None:
            raise _unsupported("a fake model says words back and keeps to no form of answers")
        return [_prepare(prompt, ask) for prompt in ask.prompts]

    async def count(self, target: Target, ask: EmbedAsk) -> int:
        """Count words."""
        return sum(len(_words(text, ask.param)) for text in ask.inputs)

    async def embed(self, target: Target, ask: EmbedAsk, timeout_s: float) -> Vectors:
        """Count words by their hash in `DIMENSIONS` places, so that texts of the same words are the same vector."""
        vectors = [_vector(_words(text, ask.param), ask.dimensions or DIMENSIONS) for text in ask.inputs]
        return Vectors(vectors=vectors, prompt_tokens=await self.count(target, ask), version="base")


def _prepare(prompt: Prompt, ask: Ask) -> FakePrompt:
    if isinstance(prompt, Chat) and prompt.tools and ask.tool_choice != "none":
        raise _unsupported("a fake model says words back and calls no tools")
    text = prompt.messages[-1]["content"] if isinstance(prompt, Chat) else prompt
    words = tuple(_words(text, ask.param)) or ("(silence)",)
    limit = budget.answer_tokens(ask, len(words), CONTEXT_TOKENS)
    return FakePrompt(words, limit, ask.stop, ask.logprobs)


def _words(text: object, param: str) -> list[str]:
    if not isinstance(text, str):
        raise errors.InvalidRequest("A fake model has no vocabulary; send text instead of token ids", param=param)
    return _WORD.findall(text)


def _vector(words: Sequence[str], dimensions: int) -> list[float]:
    if dimensions > DIMENSIONS:
        raise errors.InvalidRequest(f"This model's vectors have {DIMENSIONS} numbers", param="dimensions")
    numbers = [0.0] * DIMENSIONS
    for word in words or ("(silence)",):
        digest = hashlib.sha256(word.strip().lower().encode()).digest()
        numbers[digest[0] % dimensions] += 1.0
    length = sum(number * number for number in numbers) ** 0.5
    return [number / length for number in numbers[:dimensions]]


def _unsupported(reason: str) -> errors.InvalidRequest:
    return errors.InvalidRequest(f"Not available: {reason}", code="unsupported_parameter", param="model")
