"""OpenAI's `/v1/embeddings`."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

from trainyard.serving.types import fields

MAX_INPUTS = 2048


class EmbeddingRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Body of `POST /v1/embeddings`."""

    input: Annotated[
        fields.PromptText | Annotated[list[str | int | list[int]], Meta(min_length=1, max_length=1_000_000)],
        Meta(description="A text, up to 2,048 texts, a list of token ids, or up to 2,048 such lists; none empty."),
    ]
    model: fields.ModelName | None = None
    encoding_format: (
        Annotated[
            Literal["float", "base64"],
            Meta(description="`base64`: little-endian float32 numbers; null = `float`."),
        ]
        | None
    ) = None
    dimensions: (
        Annotated[
            int, Meta(ge=1, le=65_536, description="Keep so many leading numbers, made to length 1 again; null = all.")
        ]
        | None
    ) = None
    user: fields.EndUser | None = None


class Embedding(Struct, frozen=True, kw_only=True):
    """One vector."""

    object: Annotated[Literal["embedding"], Meta(description="Always `embedding`.")] = "embedding"
    index: Annotated[int, Meta(description="Number of its text.")]
    embedding: Annotated[list[float] | str, Meta(description="The vector, of length 1, as `encoding_format` says.")]


class EmbeddingUsage(Struct, frozen=True, kw_only=True):
    """Token counts."""

    prompt_tokens: Annotated[int, Meta(description="Tokens read.")]
    total_tokens: Annotated[int, Meta(description="The same.")]


class EmbeddingResponse(Struct, frozen=True, kw_only=True):
    """Answer of `POST /v1/embeddings`."""

    object: Annotated[Literal["list"], Meta(description="Always `list`.")] = "list"
    data: Annotated[list[Embedding], Meta(description="One entry per text, in their order.")]
    model: Annotated[str, Meta(description="Name of the model that answered, aliases resolved.")]
    usage: Annotated[EmbeddingUsage, Meta(description="Tokens read.")]
