"""Bodies of OpenAI's routes as far as they are honoured here; any other field is refused by name."""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from trainyard.serving.types import fields

Finish = Literal["stop", "length"]


class TextPart(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a message; only text parts are understood."""

    type: Literal["text"]
    text: Annotated[str, Meta(max_length=fields.MAX_PROMPT_CHARS)]


class ChatMessage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One turn; control tokens in its text stay plain text."""

    role: Annotated[
        Literal["system", "developer", "user", "assistant"], Meta(description="`developer` means `system`.")
    ]
    content: Annotated[str, Meta(max_length=fields.MAX_PROMPT_CHARS)] | Annotated[list[TextPart], Meta(min_length=1)]

    def as_turn(self) -> dict[str, str]:
        """Give the turn as chat templates read it: text parts joined."""
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class StreamOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a stream says beside the text."""

    include_usage: Annotated[bool, Meta(description="End with a chunk that has the token counts.")] = False


class TextFormat(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The only format of answers."""

    type: Literal["text"]


class _Sampling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: fields.ModelName
    max_tokens: fields.MaxTokens | None = None
    temperature: fields.Temperature | None = None
    top_p: fields.TopP | None = None
    top_k: fields.TopK | None = None
    n: fields.Choices | None = None
    stop: fields.StopTexts | None = None
    seed: fields.Seed | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    presence_penalty: fields.NoPenalty | None = None
    frequency_penalty: fields.NoPenalty | None = None
    user: fields.EndUser | None = None


class ChatRequest(_Sampling, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=2048)]
    max_completion_tokens: fields.MaxTokens | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20, description="Needs `logprobs: true`.")] | None = None
    response_format: TextFormat | None = None


class CompletionRequest(_Sampling, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/completions`."""

    prompt: Annotated[
        fields.PromptText | Annotated[list[str | int | list[int]], Meta(min_length=1, max_length=1_000_000)],
        Meta(description="A text, a list of texts, a list of token ids, or a list of such lists."),
    ]
    logprobs: Annotated[int, Meta(ge=0, le=20, description="Likeliest tokens to show at each place.")] | None = None
    echo: Annotated[bool, Meta(description="Only false: the prompt is not repeated.")] | None = None
    best_of: Annotated[int, Meta(ge=1, le=1, description="Only 1: use `n`.")] | None = None


class Usage(Struct, frozen=True, kw_only=True):
    """Token counts; the end-of-turn token and what a stop string cut off were generated and count."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class TopLogprob(Struct, frozen=True, kw_only=True):
    """One likely token."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Struct, frozen=True, kw_only=True):
    """The drawn token and its rivals."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct, frozen=True, kw_only=True):
    """Logprobs of an answer, token by token."""

    content: list[TokenLogprob]


class CompletionLogprobs(Struct, frozen=True, kw_only=True):
    """Logprobs of a completion in the older shape; offsets count characters from the start of the text."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]
    text_offset: list[int]


class Said(Struct, frozen=True, kw_only=True):
    """The assistant's turn."""

    role: Literal["assistant"]
    content: str


class Delta(Struct, frozen=True, kw_only=True):
    """What a chunk adds to the turn."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET


class ChatChoice(Struct, frozen=True, kw_only=True):
    """One answer."""

    index: int
    message: Said
    logprobs: ChatLogprobs | None
    finish_reason: Finish


class ChatChunkChoice(Struct, frozen=True, kw_only=True):
    """One answer's next part."""

    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: Finish | None


class CompletionChoice(Struct, frozen=True, kw_only=True):
    """One completion, or its next part."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: Finish | None


class ChatResponse(Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    system_fingerprint: Annotated[str, Meta(description="Version of the weights: `base` or `run_<id>@<step>`.")]
    choices: list[ChatChoice]
    usage: Usage


class ChatChunk(Struct, frozen=True, kw_only=True):
    """One event of a chat stream."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    system_fingerprint: str | UnsetType
    choices: list[ChatChunkChoice]
    usage: Usage | UnsetType | None = UNSET


class CompletionResponse(Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/completions`, and one event of its stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    system_fingerprint: str | UnsetType
    choices: list[CompletionChoice]
    usage: Usage | UnsetType | None = UNSET
