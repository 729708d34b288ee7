"""Shapes of completions: whole, and chunk by chunk."""

import itertools
from collections.abc import Sequence

from msgspec import UNSET, UnsetType

from trainyard.serving.routes import sse
from trainyard.serving.routes.openai_head import Head, bounded, shown, usage
from trainyard.serving.types import Choice, Piece
from trainyard.serving.types import openai_answers as answers
from trainyard.serving.work import Work


def response(head: Head, work: Work, choices: Sequence[Choice]) -> answers.CompletionResponse:
    """Write a whole answer."""
    written = [
        answers.CompletionChoice(
            index=choice.index,
            text=choice.piece.text,
            logprobs=_logprobs(work, choice.piece, 0),
            finish_reason=choice.finish_reason,
        )
        for choice in choices
    ]
    return _body(head, written, choices[0].piece.version, usage(work))


class ChunkWriter:
    """Writes the chunks of one stream."""

    def __init__(self, head: Head, work: Work) -> None:
        self._head = head
        self._work = work
        self._offsets: dict[int, int] = {}

    def write(self, index: int, piece: Piece) -> bytes:
        """Write what is new of one answer; the last chunk has the reason."""
        offset = self._offsets.get(index, 0)
        self._offsets[index] = offset + len(piece.text)
        choice = answers.CompletionChoice(
            index=index,
            text=piece.text,
            logprobs=_logprobs(self._work, piece, offset),
            finish_reason=piece.finish_reason,
        )
        counts = None if self._head.has_usage else UNSET
        return sse.data(_body(self._head, [choice], piece.version, counts))

    def end(self) -> bytes:
        """Write the chunk with the token counts when it was asked for."""
        return sse.data(_body(self._head, [], UNSET, usage(self._work))) if self._head.has_usage else b""


def _body(
    head: Head,
    choices: list[answers.CompletionChoice],
    version: str | UnsetType,
    counts: answers.Usage | UnsetType | None,
) -> answers.CompletionResponse:
    return answers.CompletionResponse(
        id=head.id,
        object="text_completion",
        created=head.created,
        model=head.model,
        system_fingerprint=version,
        choices=choices,
        usage=counts,
    )


def _logprobs(work: Work, piece: Piece, offset: int) -> answers.CompletionLogprobs | None:
    if work.ask.logprobs < 0:
        return None
    texts = [shown(token.raw) for token in piece.tokens]
    return answers.CompletionLogprobs(
        tokens=texts,
        token_logprobs=[bounded(token.logprob) for token in piece.tokens],
        top_logprobs=[{shown(raw): bounded(logprob) for raw, logprob in token.top} for token in piece.tokens],
        text_offset=list(itertools.accumulate(map(len, texts), initial=offset))[:-1],
    )
