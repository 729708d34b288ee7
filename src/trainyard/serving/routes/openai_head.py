"""What all events of one answer in OpenAI's shape have in common."""

import secrets
from dataclasses import dataclass

from trainyard.core.clock import Clock
from trainyard.serving.types.openai import StreamOptions
from trainyard.serving.types.openai_answers import PromptTokensDetails, Usage
from trainyard.serving.work import Work

MIN_LOGPROB = -9999.0  # OpenAI's stand-in for minus infinity, which JSON does not have


@dataclass(frozen=True, slots=True)
class Head:
    """Identity of one answer.

    Attributes:
        id: `chatcmpl-…` or `cmpl-…`.
        created: Unix seconds.
        work: What answers.
        has_usage: Whether a stream ends with the token counts.
    """

    id: str
    created: int
    work: Work
    has_usage: bool

    @property
    def model(self) -> str:
        """Canonical name of the model that answers; a fallback's, once it does."""
        return self.work.model

    @classmethod
    def make(cls, prefix: str, clock: Clock, work: Work, options: StreamOptions | None) -> "Head":
        """Name a new answer."""
        has_usage = options is not None and options.include_usage
        return cls(f"{prefix}-{secrets.token_hex(12)}", int(clock.now()), work, has_usage)


def usage(work: Work) -> Usage:
    """Count what was read and generated so far."""
    used = work.usage
    prompt, completion = used.prompt_tokens, used.completion_tokens
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=used.cached_tokens),
    )


def shown(raw: bytes) -> str:
    """Show the bytes of one token; a part of a character becomes U+FFFD."""
    return raw.decode(errors="replace")


def bounded(logprob: float) -> float:
    """Keep a logprob within what JSON can say."""
    return max(logprob, MIN_LOGPROB)
