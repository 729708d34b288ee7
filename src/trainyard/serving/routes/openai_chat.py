"""Shapes of chat answers: whole, and chunk by chunk."""

from collections.abc import Sequence

from msgspec import UNSET, UnsetType

from trainyard.serving.routes import sse
from trainyard.serving.routes.openai_head import Head, bounded, shown, usage
from trainyard.serving.types import Choice, Piece, TokenInfo, ToolDelta
from trainyard.serving.types import openai_answers as answers
from trainyard.serving.types.openai_tools import CalledFunction, FunctionDelta, ToolCall, ToolCallDelta
from trainyard.serving.work import Work


def response(head: Head, work: Work, choices: Sequence[Choice]) -> answers.ChatResponse:
    """Write a whole answer."""
    return answers.ChatResponse(
        id=head.id,
        object="chat.completion",
        created=head.created,
        model=head.model,
        system_fingerprint=choices[0].piece.version,
        choices=[
            answers.ChatChoice(
                index=choice.index,
                message=_said(choice.piece),
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

    def write(self, index: int, piece: Piece) -> bytes:
        """Write what is new of one answer: first the role, then text, at the end the reason."""
        version, chunks = piece.version, b""
        if index not in self._begun:
            self._begun.add(index)
            chunks += self._choice(index, answers.Delta(role="assistant", content=""), None, None, version)
        if piece.text or piece.tokens or piece.tool_calls:
            delta = answers.Delta(
                content=piece.text if piece.text or not piece.tool_calls else UNSET,
                tool_calls=[_part(call) for call in piece.tool_calls] or UNSET,
            )
            chunks += self._choice(index, delta, _logprobs(self._work, piece), None, version)
        if piece.finish_reason:
            chunks += self._choice(index, answers.Delta(), None, piece.finish_reason, version)
        return chunks

    def end(self) -> bytes:
        """Write the chunk with the token counts when it was asked for."""
        return self._chunk([], usage(self._work), UNSET) if self._head.has_usage else b""

    def _choice(
        self,
        index: int,
        delta: answers.Delta,
        logprobs: answers.ChatLogprobs | None,
        finish: answers.Finish | None,
        version: str,
    ) -> bytes:
        choice = answers.ChatChunkChoice(index=index, delta=delta, logprobs=logprobs, finish_reason=finish)
        return self._chunk([choice], None if self._head.has_usage else UNSET, version)

    def _chunk(
        self, choices: list[answers.ChatChunkChoice], counts: answers.Usage | UnsetType | None, version: str | UnsetType
    ) -> bytes:
        return sse.data(
            answers.ChatChunk(
                id=self._head.id,
                object="chat.completion.chunk",
                created=self._head.created,
                model=self._head.model,
                system_fingerprint=version,
                choices=choices,
                usage=counts,
            )
        )


def _said(piece: Piece) -> answers.Said:
    """Write a turn; calls that have no end yet are told as far as they go, as OpenAI does."""
    if not piece.tool_calls:
        return answers.Said(role="assistant", content=piece.text)
    calls = [
        ToolCall(
            id=call.id or "", type="function", function=CalledFunction(name=call.name or "", arguments=call.arguments)
        )
        for call in piece.tool_calls
    ]
    return answers.Said(role="assistant", content=piece.text or None, tool_calls=calls)


def _part(call: ToolDelta) -> ToolCallDelta:
    """Write a part of a call; id, type and name come with its first one."""
    if call.id is None and call.name is None:
        return ToolCallDelta(index=call.index, function=FunctionDelta(arguments=call.arguments))
    return ToolCallDelta(
        index=call.index,
        id=call.id or "",
        type="function",
        function=FunctionDelta(name=call.name or "", arguments=call.arguments),
    )


def _logprobs(work: Work, piece: Piece) -> answers.ChatLogprobs | None:
    if work.ask.logprobs < 0:
        return None
    return answers.ChatLogprobs(content=[_token(token) for token in piece.tokens])


def _token(token: TokenInfo) -> answers.TokenLogprob:
    return answers.TokenLogprob(
        token=shown(token.raw),
        logprob=bounded(token.logprob),
        bytes=list(token.raw),
        top_logprobs=[_rival(raw, logprob) for raw, logprob in token.top],
    )


def _rival(raw: bytes, logprob: float) -> answers.TopLogprob:
    return answers.TopLogprob(token=shown(raw), logprob=bounded(logprob), bytes=list(raw))
