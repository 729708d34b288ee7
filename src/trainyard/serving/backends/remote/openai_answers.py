"""What servers of OpenAI's dialect answer, and the pieces that it makes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from trainyard.serving.backends.remote import counts
from trainyard.serving.backends.remote.wire import Filtered, Garbage, Reported
from trainyard.serving.types import Finish, Piece, TokenInfo, ToolDelta

DONE = b"[DONE]"
_FINISH: Mapping[str, Finish] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
}
_Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]


class _Cached(msgspec.Struct):
    cached_tokens: _Count | None = 0


class _Usage(msgspec.Struct):
    prompt_tokens: _Count
    completion_tokens: _Count = 0
    prompt_tokens_details: _Cached | None = None


class _Rival(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None


class _Token(_Rival):
    top_logprobs: list[_Rival] | None = None


class _ChatLogprobs(msgspec.Struct):
    content: list[_Token] | None = None


class _TextLogprobs(msgspec.Struct):
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = ""


class _Call(msgspec.Struct):
    function: _Function
    id: str | None = None
    index: int | None = None


class _Message(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_Call] | None = None


class _ChatChoice(msgspec.Struct):
    message: _Message
    finish_reason: str | None = None
    logprobs: _ChatLogprobs | None = None


class _ChatAnswer(msgspec.Struct):
    choices: list[_ChatChoice] = []
    usage: _Usage | None = None
    model: str | None = None
    error: object = None


class _ChunkChoice(msgspec.Struct):
    delta: _Message = msgspec.field(default_factory=_Message)
    finish_reason: str | None = None
    logprobs: _ChatLogprobs | None = None


class _ChatChunk(msgspec.Struct):
    choices: list[_ChunkChoice] = []
    usage: _Usage | None = None
    model: str | None = None
    error: object = None


class _TextChoice(msgspec.Struct):
    text: str = ""
    finish_reason: str | None = None
    logprobs: _TextLogprobs | None = None


class _TextAnswer(msgspec.Struct):
    choices: list[_TextChoice] = []
    usage: _Usage | None = None
    model: str | None = None
    error: object = None


read_chat = msgspec.json.Decoder(_ChatAnswer).decode
read_chat_chunk = msgspec.json.Decoder(_ChatChunk).decode
read_completion = msgspec.json.Decoder(_TextAnswer).decode


@dataclass(slots=True)
class EventReader:
    """Implements `Reader`: the finish reason is held back until the usage has come, or the end."""

    max_tokens: int
    decode: Any
    is_done: bool = False
    _finish: Finish | None = None
    _bound: int = 0
    _usage: _Usage | None = None
    _model: str | None = None
    _has_calls: bool = False

    def push(self, event: bytes) -> Piece | None:
        """Take the data of an event."""
        if event == DONE:
            self.is_done = True
            return None
        chunk = decoded(self.decode, event)
        self._model = chunk.model or self._model
        self._usage = chunk.usage or self._usage
        if not chunk.choices:
            return None
        choice = chunk.choices[0]
        if choice.finish_reason is not None:
            self._finish = finish_of(choice.finish_reason)
        return self._text(choice) if isinstance(choice, _TextChoice) else self._delta(choice)

    def end(self) -> Piece | None:
        """Give the last piece."""
        if self._finish is None:
            return None
        finish: Finish = "tool_calls" if self._has_calls and self._finish == "stop" else self._finish
        return counted(self._usage, self._model, self._drawn(), finish=finish)

    def _delta(self, choice: _ChunkChoice) -> Piece | None:
        text, tokens = choice.delta.content or "", chat_tokens(choice.logprobs)
        calls = tuple([call_of(at, call) for at, call in enumerate(choice.delta.tool_calls or ())])
        self._has_calls = self._has_calls or bool(calls)
        return self._piece(text, tokens, calls)

    def _text(self, choice: _TextChoice) -> Piece | None:
        return self._piece(choice.text, text_tokens(choice.logprobs), ())

    def _piece(self, text: str, tokens: tuple[TokenInfo, ...], calls: tuple[ToolDelta, ...]) -> Piece | None:
        if not (text or tokens or calls):
            return None
        if tokens:
            self._bound += len(tokens)
        else:
            self._bound += sum(counts.text_bound(one) for one in (text, *(call.arguments for call in calls)) if one)
        return Piece(
            text=text,
            tokens=tokens,
            tool_calls=calls,
            completion_tokens=self._drawn(),
            version=self._model or "upstream",
        )

    def _drawn(self) -> int:
        if self._usage is not None and self._usage.completion_tokens:
            return self._usage.completion_tokens
        return min(max(self._bound, 1), self.max_tokens)


def decoded(read: Any, raw: bytes) -> Any:
    """Decode an answer or an event; raises `Garbage` or `Reported`."""
    try:
        answer = read(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbage from error
    if answer.error is not None:
        raise Reported
    return answer


def only(answer: Any) -> Any:
    """Find the one choice that was asked for; raises `Garbage`."""
    if not answer.choices:
        raise Garbage
    return answer.choices[0]


def finish_of(reason: str | None) -> Finish:
    """Read a finish reason; servers have more words for a natural end than OpenAI."""
    if reason == "content_filter":
        raise Filtered
    return _FINISH.get(reason or "stop", "stop")


def counted(
    usage: _Usage | None,
    model: str | None,
    drawn: int,
    *,
    finish: Finish,
    text: str = "",
    tokens: tuple[TokenInfo, ...] = (),
) -> Piece:
    """Make the last piece; without a usage the bounds stand."""
    details = usage.prompt_tokens_details if usage else None
    return Piece(
        text=text,
        tokens=tokens,
        finish_reason=finish,
        completion_tokens=drawn if usage is None else usage.completion_tokens,
        prompt_tokens=None if usage is None else usage.prompt_tokens,
        cached_tokens=(details.cached_tokens or 0) if details else 0,
        version=model or "upstream",
    )


def call_of(at: int, call: _Call) -> ToolDelta:
    """Read a tool call or a part of one."""
    function = call.function
    return ToolDelta(at if call.index is None else call.index, call.id, function.name, function.arguments or "")


def chat_tokens(logprobs: _ChatLogprobs | None) -> tuple[TokenInfo, ...]:
    """Read the log-probabilities of a chat."""
    if logprobs is None or not logprobs.content:
        return ()
    return tuple(
        [
            TokenInfo(_raw(one), one.logprob, tuple([(_raw(top), top.logprob) for top in one.top_logprobs or ()]))
            for one in logprobs.content
        ]
    )


def _raw(token: _Rival) -> bytes:
    if token.bytes is None:
        return token.token.encode("utf-8", "surrogatepass")
    if any(not 0 <= one <= 255 for one in token.bytes):
        raise Garbage
    return bytes(token.bytes)


def text_tokens(logprobs: _TextLogprobs | None) -> tuple[TokenInfo, ...]:
    """Read the log-probabilities of a completion."""
    if logprobs is None or not logprobs.tokens:
        return ()
    values = logprobs.token_logprobs or []
    tops = logprobs.top_logprobs or [None] * len(logprobs.tokens)
    if len(values) != len(logprobs.tokens) or len(tops) != len(values):
        raise Garbage
    return tuple(
        [
            TokenInfo(token.encode(), value or 0.0, tuple([(name.encode(), one) for name, one in (top or {}).items()]))
            for token, value, top in zip(logprobs.tokens, values, tops, strict=True)
        ]
    )
