"""How many tokens an answer may have."""

from trainyard.core import errors
from trainyard.serving.types import Ask


def answer_tokens(ask: Ask, prompt_tokens: int, context_tokens: int) -> int:
    """Decide the length limit of an answer.

    Raises:
        errors.InvalidRequest: `context_length_exceeded`: the prompt leaves no token, or fewer than `max_tokens` asks.
    """
    left = context_tokens - prompt_tokens
    wanted = min(ask.default_max_tokens, max(left, 1)) if ask.max_tokens is None else ask.max_tokens
    if wanted <= left:
        return wanted
    raise errors.InvalidRequest(
        f"This model's context is {context_tokens} tokens; the prompt has {prompt_tokens} and the answer may take "
        f"{wanted}, {prompt_tokens + wanted} together. Shorten the prompt or lower the number of new tokens.",
        code="context_length_exceeded",
        param=ask.param,
        data={"context_tokens": context_tokens, "prompt_tokens": prompt_tokens, "max_tokens": wanted},
    )
