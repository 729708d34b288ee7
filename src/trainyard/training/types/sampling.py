"""Requests and answers of `sample` and `sample/stream`."""

from pydantic import Field

from trainyard.training.types.base import Request, Result, Text
from trainyard.training.types.config import MAX_SEED


class _Drawing(Request):
    """How tokens are drawn."""

    max_tokens: int = Field(
        default=512,
        ge=1,
        le=131_072,
        description="Most tokens to draw. When left out, less if the context has less room.",
    )
    temperature: float = Field(default=0.7, ge=0, le=2, description="0 = the likeliest token always.")
    top_p: float = Field(
        default=0.9, gt=0, le=1, description="Draw from the likeliest tokens that together reach this share."
    )
    seed: int | None = Field(
        default=None, ge=0, le=MAX_SEED, description="Same seed, prompt, weights: same tokens. Prompt i uses seed + i."
    )


class SampleRequest(_Drawing):
    """What `sample` takes."""

    prompts: list[Text] = Field(min_length=1, max_length=128, description="1 to 128 texts to continue.")
    return_logprobs: bool = Field(default=False, description="Also answer the log-probability of each drawn token.")


class SampleResponse(Result):
    """What `sample` answers: one entry per prompt in each list, without the prompt."""

    outputs: list[str] = Field(description="Continuations, special tokens left out.")
    token_ids: list[list[int]] = Field(description="Drawn ids of the text, the end-of-turn token left out.")
    tokens: list[list[str]] = Field(description="The same as the vocabulary spells them.")
    logprobs: list[list[float]] | None = Field(
        description="Natural log-probability of each drawn id, before temperature and top_p; null = not asked."
    )
    finish_reasons: list[str] = Field(
        description="`stop`: the model ended; `length`: max_tokens or the context is used up."
    )
    weights_versions: list[str] = Field(description="`<run_id>@<step>` whose weights drew each continuation.")


class StreamRequest(_Drawing):
    """What `sample/stream` takes."""

    prompt: Text = Field(description="Text to continue.")


class TokenChunk(Result):
    """One event of `sample/stream`."""

    token: str = Field(description="Text that this token completes; empty inside a character of several tokens.")
    token_id: int | None = Field(description="Drawn id; null on an end without a token.")
    logprob: float | None = Field(description="Natural log-probability; null on an end without a token.")
    is_finished: bool = Field(description="True on the last event.")
