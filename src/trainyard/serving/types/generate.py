"""Bodies of `POST /v1/generate`."""

from typing import Annotated

from msgspec import Meta, Struct

from trainyard.serving.types import fields


class GenerateRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Continue a text; every field but the prompt may be left out or null."""

    prompt: fields.PromptText
    model: fields.ModelName | None = None
    max_new_tokens: fields.MaxTokens | None = None
    temperature: fields.Temperature | None = None
    top_p: fields.TopP | None = None
    top_k: fields.TopK | None = None
    stop: fields.StopTexts | None = None
    seed: fields.Seed | None = None


class GenerateResponse(Struct, frozen=True, kw_only=True):
    """The text that follows the prompt; these three fields and no others."""

    model: Annotated[str, Meta(description="Name of the model that answered, aliases resolved.")]
    output: Annotated[str, Meta(description="Text after the prompt, without the stop string.")]
    cached: Annotated[bool, Meta(description="Whether the answer came from a cache; false, since nothing is cached.")]
