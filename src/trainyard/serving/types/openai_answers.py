"""Answers of OpenAI's routes, whole and event by event."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from trainyard.serving.types.openai_tools import ToolCall, ToolCallDelta

Finish = Literal["stop", "length", "tool_calls"]

_FINISH = (
    "`stop`: the model ended, or a stop string came; `length`: `max_tokens` or the context is used up; `tool_calls`: "
    "the model calls tools."
)
EndOfPart = Annotated[Finish | None, Meta(description=_FINISH + " Null before the end of a stream.")]
Assistant = Annotated[Literal["assistant"], Meta(description="Always `assistant`; in a stream only at the start.")]
Index = Annotated[int, Meta(description="Number of the answer, from 0: over prompts first, then over their answers.")]
AnswerId = Annotated[str, Meta(description="`chatcmpl-…` or `cmpl-…`; the same in all events of a stream.")]
Created = Annotated[int, Meta(description="When the answer was begun, Unix seconds.")]
ModelUsed = Annotated[str, Meta(description="Name of the model that answered, aliases resolved.")]
Fingerprint = Annotated[str, Meta(description="Version of the weights: `base` or `run_<id>@<step>`.")]
TokenText = Annotated[str, Meta(description="The token's text; part of a character shows as U+FFFD.")]
TokenBytes = Annotated[list[int], Meta(description="The token's bytes, 0-255 each.")]
Logprob = Annotated[float, Meta(description="Natural log-probability; at least -9999.")]


class PromptTokensDetails(Struct, frozen=True, kw_only=True):
    """What became of the prompt's tokens."""

    cached_tokens: Annotated[int, Meta(description="Tokens that were found computed and were not computed again.")]


class Usage(Struct, frozen=True, kw_only=True):
    """Token counts; the end-of-turn token and what a stop string cut off were generated and count."""

    prompt_tokens: Annotated[int, Meta(description="Tokens of the prompts.")]
    completion_tokens: Annotated[int, Meta(description="Tokens generated, over all answers.")]
    total_tokens: Annotated[int, Meta(description="The sum of both.")]
    prompt_tokens_details: Annotated[PromptTokensDetails, Meta(description="Parts of `prompt_tokens`.")]


StreamUsage = Annotated[
    Usage | UnsetType | None,
    Meta(
        description="Tokens read and generated. In a stream absent unless `include_usage` was asked for; then null but "
        "in the last chunk."
    ),
]


class TopLogprob(Struct, frozen=True, kw_only=True):
    """One likely token."""

    token: TokenText
    logprob: Logprob
    bytes: TokenBytes


class TokenLogprob(Struct, frozen=True, kw_only=True):
    """The drawn token and its rivals."""

    token: TokenText
    logprob: Logprob
    bytes: TokenBytes
    top_logprobs: Annotated[
        list[TopLogprob], Meta(description="The likeliest tokens at this place, likeliest first; as many as asked for.")
    ]


class ChatLogprobs(Struct, frozen=True, kw_only=True):
    """Logprobs of an answer, token by token."""

    content: Annotated[list[TokenLogprob], Meta(description="One entry per drawn token.")]


ChatTokens = Annotated[ChatLogprobs | None, Meta(description="Of the tokens of this part; null when not asked for.")]


class CompletionLogprobs(Struct, frozen=True, kw_only=True):
    """Logprobs of a completion in the older shape; offsets count characters from the start of the text."""

    tokens: Annotated[list[str], Meta(description="Drawn tokens; part of a character shows as U+FFFD.")]
    token_logprobs: Annotated[list[float], Meta(description="Natural log-probability of each; at least -9999.")]
    top_logprobs: Annotated[
        list[dict[str, float]], Meta(description="Likeliest tokens of each place with their log-probability.")
    ]
    text_offset: Annotated[list[int], Meta(description="Where each token begins, in characters.")]


class Said(Struct, frozen=True, kw_only=True):
    """The assistant's turn."""

    role: Assistant
    content: Annotated[
        str | None, Meta(description="The answer, without the stop string; null when there are calls alone.")
    ]
    tool_calls: Annotated[list[ToolCall], Meta(description="Calls, if there are any.")] | UnsetType = UNSET


class Delta(Struct, frozen=True, kw_only=True):
    """What a chunk adds to the turn."""

    role: Assistant | UnsetType = UNSET
    content: Annotated[str | None, Meta(description="Text to append; absent at the end.")] | UnsetType = UNSET
    tool_calls: Annotated[list[ToolCallDelta], Meta(description="Parts of calls.")] | UnsetType = UNSET


class ChatChoice(Struct, frozen=True, kw_only=True):
    """One answer."""

    index: Index
    message: Annotated[Said, Meta(description="The turn that was generated.")]
    logprobs: ChatTokens
    finish_reason: Annotated[Finish, Meta(description=_FINISH)]


class ChatChunkChoice(Struct, frozen=True, kw_only=True):
    """One answer's next part."""

    index: Index
    delta: Annotated[Delta, Meta(description="What is new.")]
    logprobs: ChatTokens
    finish_reason: EndOfPart


class CompletionChoice(Struct, frozen=True, kw_only=True):
    """One completion, or its next part."""

    index: Index
    text: Annotated[str, Meta(description="Text after the prompt, without the stop string; in a stream what is new.")]
    logprobs: Annotated[
        CompletionLogprobs | None, Meta(description="Of the tokens of `text`; null when not asked for.")
    ]
    finish_reason: EndOfPart


class ChatResponse(Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/chat/completions`."""

    id: AnswerId
    object: Annotated[Literal["chat.completion"], Meta(description="Always `chat.completion`.")]
    created: Created
    model: ModelUsed
    system_fingerprint: Fingerprint
    choices: Annotated[list[ChatChoice], Meta(description="`n` answers by index.")]
    usage: Annotated[Usage, Meta(description="Tokens read and generated.")]


class ChatChunk(Struct, frozen=True, kw_only=True):
    """One event of a chat stream; `data: [DONE]` follows the last one."""

    id: AnswerId
    object: Annotated[Literal["chat.completion.chunk"], Meta(description="Always `chat.completion.chunk`.")]
    created: Created
    model: ModelUsed
    system_fingerprint: Fingerprint | UnsetType = UNSET
    choices: Annotated[list[ChatChunkChoice], Meta(description="One entry; none in the chunk with the token counts.")]
    usage: StreamUsage = UNSET


class CompletionResponse(Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/completions`, and one event of its stream, whose last one `data: [DONE]` follows."""

    id: AnswerId
    object: Annotated[Literal["text_completion"], Meta(description="Always `text_completion`.")]
    created: Created
    model: ModelUsed
    system_fingerprint: Fingerprint | UnsetType = UNSET
    choices: Annotated[
        list[CompletionChoice],
        Meta(description="`n` answers per prompt by index; in a stream one, or none beside the token counts."),
    ]
    usage: StreamUsage = UNSET
