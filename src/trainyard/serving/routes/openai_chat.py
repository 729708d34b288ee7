"""Shapes of chat answers: whole, and chunk by chunk."""

from collections.abc import Sequence

from msgspec import UNSET, UnsetType

from trainyard.engine.generation import DrawnToken, TextPiece
from trainyard.serving.routes import sse
from trainyard.serving.routes.openai_head import Head, bounded, shown, usage
from trainyard.serving.types import Choice, openai
from trainyard.serving.work import Work


def response(head: Head, work: Work, choices: Sequence[Choice]) -> openai.ChatResponse:
    """Write a whole answer."""
    return openai.ChatResponse(
        id=head.id,
        object="chat.completion",
        created=head.created,
        model=head.model,
        system_fingerprint=choices[0].piece.weights_version,
        choices=[
            openai.ChatChoice(
                index=choice.index,
                message=openai.Said(role="assistant", content=choice.piece.text),
                logprobs=_logprobs(work, choice.piece),
                finish_reason=choice.finish_reason,
            )
            for choice in choices
        ],
        usage=usage(work),
    )


class ChunkWriter:
    """Writes the chunks of one stream."""

    def __init__(self, head: Head, work: Work) -> None:
        self._head = head
        self._work = work
        self._begun: set[int] = set()

    def write(self, index: int, piece: TextPiece) -> bytes:
        """Write what is new of one answer: first the role, then text, at the end the reason."""
        version, chunks = piece.weights_version, b""
        if index not in self._begun:
            self._begun.add(index)
            chunks += self._choice(index, openai.Delta(role="assistant", content=""), None, None, version)
        if piece.text or piece.tokens:
            delta = openai.Delta(content=piece.text)
            chunks += self._choice(index, delta, _logprobs(self._work, piece), None, version)
        if piece.finish_reason:
            chunks += self._choice(index, openai.Delta(), None, piece.finish_reason, version)
        return chunks

    def end(self) -> bytes:
        """Write the chunk with the token counts when it was asked for."""
        return self._chunk([], usage(self._work), UNSET) if self._head.has_usage else b""

    def _choice(
        self,
        index: int,
        delta: openai.Delta,
        logprobs: openai.ChatLogprobs | None,
        finish: openai.Finish | None,
        version: str,
    ) -> bytes:
        choice = openai.ChatChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=finish)
        return self._chunk([choice], None if self._head.has_usage else UNSET, version)

    def _chunk(
        self, choices: list[openai.ChatChunkChoice], counts: openai.Usage | UnsetType | None, version: str | UnsetType
    ) -> bytes:
        return sse.data(
            openai.ChatChunk(
                id=self._head.id,
                object="chat.completion.chunk",
                created=self._head.created,
                model=self._head.model,
                system_fingerprint=version,
                choices=choices,
                usage=counts,
            )
        )


def _logprobs(work: Work, piece: TextPiece) -> openai.ChatLogprobs | None:
    if work.ask.logprobs < 0:
        return None
    return openai.ChatLogprobs(content=[_token(work, token) for token in piece.tokens])


def _token(work: Work, token: DrawnToken) -> openai.TokenLogprob:
    raw = work.token_bytes(token.token_id)
    return openai.TokenLogprob(
        token=shown(raw),
        logprob=bounded(token.logprob),
        bytes=list(raw),
        top_logprobs=[_rival(work, one, logprob) for one, logprob in token.top],
    )


def _rival(work: Work, token_id: int, logprob: float) -> openai.TopLogprob:
    raw = work.token_bytes(token_id)
    return openai.TopLogprob(token=shown(raw), logprob=bounded(logprob), bytes=list(raw))
