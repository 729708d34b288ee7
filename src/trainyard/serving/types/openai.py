"""Requests to OpenAI's routes as far as they are honoured here; any other field is refused by name."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from trainyard.serving.types import fields
from trainyard.serving.types import openai_tools as shapes


class TextPart(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a message; only text parts are understood."""

    type: Annotated[Literal["text"], Meta(description="Only `text`.")]
    text: Annotated[
        str, Meta(max_length=fields.MAX_PROMPT_CHARS, description="What is said; at most 4,194,304 characters.")
    ]


class ChatMessage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One turn; control tokens in its text stay plain text."""

    role: Annotated[
        Literal["system", "developer", "user", "assistant", "tool"], Meta(description="`developer` means `system`.")
    ]
    content: Annotated[
        Annotated[str, Meta(max_length=fields.MAX_PROMPT_CHARS)] | Annotated[list[TextPart], Meta(min_length=1)] | None,
        Meta(
            description="A text of at most 4,194,304 characters, or text parts that are joined; null only beside "
            "`tool_calls`."
        ),
    ] = None
    tool_calls: (
        Annotated[list[shapes.ToolCall], Meta(max_length=128, description="What the assistant called.")] | None
    ) = None
    tool_call_id: Annotated[shapes.CallId, Meta(description="Of role `tool`: which call it answers.")] | None = None
    refusal: Annotated[None, Meta(description="Only null.")] = None

    def as_turn(self) -> dict[str, object]:
        """Give the turn as chat templates read it: text parts joined."""
        text = self.content
        if isinstance(text, list):
            text = "".join([part.text for part in text])
        turn: dict[str, object] = {"role": "system" if self.role == "developer" else self.role, "content": text or ""}
        if self.tool_calls:
            turn["tool_calls"] = msgspec.to_builtins(self.tool_calls)
        if self.tool_call_id is not None:
            turn["tool_call_id"] = self.tool_call_id
        return turn

    def fault(self) -> str | None:
        """Say what is missing in a turn of its role, or is not of it."""
        if self.role == "tool" and self.tool_call_id is None:
            return "a turn of role tool needs tool_call_id"
        if self.role != "tool" and self.tool_call_id is not None:
            return "only a turn of role tool has tool_call_id"
        if self.role != "assistant" and self.tool_calls:
            return "only a turn of role assistant has tool_calls"
        if self.content is None and not self.tool_calls:
            return "content is missing"
        return None


class StreamOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a stream says beside the text."""

    include_usage: Annotated[bool, Meta(description="End with a chunk that has the token counts.")] = False


class _Sampling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: fields.ModelName | None = None
    max_tokens: fields.MaxTokens | None = None
    temperature: fields.Temperature | None = None
    top_p: fields.TopP | None = None
    top_k: fields.TopK | None = None
    n: fields.Choices | None = None
    stop: fields.StopTexts | None = None
    seed: fields.Seed | None = None
    stream: Annotated[bool, Meta(description="Answer with server-sent events as the text is made.")] | None = None
    stream_options: Annotated[StreamOptions | None, Meta(description="Needs `stream: true`.")] = None
    min_p: fields.MinP | None = None
    presence_penalty: fields.PresencePenalty | None = None
    frequency_penalty: fields.FrequencyPenalty | None = None
    user: fields.EndUser | None = None


class ChatRequest(_Sampling, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/chat/completions`."""

    messages: Annotated[
        list[ChatMessage], Meta(min_length=1, max_length=2048, description="1 to 2,048 turns, oldest first.")
    ]
    max_completion_tokens: fields.MaxTokens | None = None
    logprobs: Annotated[bool, Meta(description="Also answer the log-probability of each drawn token.")] | None = None
    top_logprobs: (
        Annotated[int, Meta(ge=0, le=20, description="Likeliest tokens to show at each place; needs `logprobs: true`.")]
        | None
    ) = None
    response_format: shapes.ResponseFormat = None
    tools: (
        Annotated[list[shapes.ToolSpec], Meta(min_length=1, max_length=128, description="What the model may call.")]
        | None
    ) = None
    tool_choice: shapes.ToolChoice = None
    parallel_tool_calls: (
        Annotated[bool, Meta(description="Whether one answer may hold several calls; null = true.")] | None
    ) = None
    store: Annotated[Literal[False], Meta(description="Only false: answers are not stored for you.")] | None = None


class CompletionRequest(_Sampling, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/completions`."""

    prompt: Annotated[
        fields.PromptText | Annotated[list[str | int | list[int]], Meta(min_length=1, max_length=1_000_000)],
        Meta(description="A text, a list of texts, a list of token ids, or a list of such lists."),
    ]
    logprobs: Annotated[int, Meta(ge=0, le=20, description="Likeliest tokens to show at each place.")] | None = None
    echo: Annotated[bool, Meta(description="Only false: the prompt is not repeated.")] | None = None
    best_of: Annotated[int, Meta(ge=1, le=1, description="Only 1: use `n`.")] | None = None
