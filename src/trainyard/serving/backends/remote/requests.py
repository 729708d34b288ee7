"""What both dialects decide about a request before it is sent."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec
import numpy as np

from trainyard.core import errors
from trainyard.core.catalog import ModelEntry
from trainyard.serving.backends.remote import counts, failures
from trainyard.serving.types import Ask, EmbedAsk, Vectors

T = TypeVar("T")


def answer_tokens(ask: Ask, entry: ModelEntry) -> int:
    """Decide the length limit of an answer; whether the prompt fits beside it only the upstream can tell.

    Raises:
        errors.InvalidRequest: `context_length_exceeded`: the limit alone is more than the model's context.
    """
    context = entry.context_tokens
    if ask.max_tokens is None:
        wanted = min(ask.default_max_tokens, entry.max_tokens)
        return wanted if context is None else min(wanted, context)
    if context is not None and ask.max_tokens >= context:
        raise errors.InvalidRequest(
            f"The context of {entry.name} is {context} tokens, which prompt and answer share; the answer may take "
            f"{ask.max_tokens}. Lower the number of new tokens.",
            code="context_length_exceeded",
            param=ask.param,
            data={"context_tokens": context, "max_tokens": ask.max_tokens},
        )
    return ask.max_tokens


def unsupported(entry: ModelEntry, param: str, hint: str) -> errors.InvalidRequest:
    """Refuse a parameter that the upstream would ignore."""
    return errors.InvalidRequest(
        f"{entry.name} cannot honour {param}: {hint}", code="unsupported_parameter", param=param
    )


def embed_bound(ask: EmbedAsk) -> int:
    """Bound the tokens of texts.

    Raises:
        errors.InvalidRequest: One is empty.
    """
    total = 0
    for at, text in enumerate(ask.inputs):
        if not text:
            raise errors.InvalidRequest(f"Text {at} is empty", param=ask.param)
        total += counts.text_bound(text) if isinstance(text, str) else len(text)
    return total


def vectors(
    ask: EmbedAsk, entry: ModelEntry, rows: Sequence[Sequence[float]], tokens: int | None, version: str | None
) -> Vectors:
    """Check what came, cut it to the dimensions asked for, and bring it to length 1.

    Raises:
        AttemptFailed: It is not one vector per text, all of one length.
        errors.InvalidRequest: The model's vectors are shorter than the dimensions asked for.
    """
    if len(rows) != len(ask.inputs) or not rows[0] or any(len(row) != len(rows[0]) for row in rows):
        raise failures.garbage(entry.name)
    if ask.dimensions is not None and ask.dimensions > len(rows[0]):
        raise errors.InvalidRequest(f"The vectors of {entry.name} have {len(rows[0])} numbers", param="dimensions")
    cut = np.asarray(rows, dtype=np.float64)[:, : ask.dimensions]
    lengths = np.linalg.norm(cut, axis=1, keepdims=True)
    if not np.isfinite(cut).all():
        raise failures.garbage(entry.name)
    return Vectors(
        vectors=(cut / np.where(lengths > 0, lengths, 1.0)).tolist(),
        prompt_tokens=embed_bound(ask) if tokens is None else tokens,
        version=version or "upstream",
    )


def read(decoder: msgspec.json.Decoder[T], raw: bytes, model: str) -> T:
    """Decode an answer that is no text.

    Raises:
        AttemptFailed: It is none.
    """
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise failures.garbage(model) from error
