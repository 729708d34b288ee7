"""Bodies of the native routes: `/v1/generate`, `/v1/generate/batch` and `/v1/stream`."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from trainyard.core import errors
from trainyard.engine.types import Grammar
from trainyard.serving.types import fields
from trainyard.serving.types.domain import Finish

MAX_BATCH = 64


class _Sampling(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    model: fields.ModelName | None = None
    max_new_tokens: fields.MaxTokens | None = None
    temperature: fields.Temperature | None = None
    top_p: fields.TopP | None = None
    top_k: fields.TopK | None = None
    min_p: fields.MinP | None = None
    presence_penalty: fields.PresencePenalty | None = None
    frequency_penalty: fields.FrequencyPenalty | None = None
    stop: fields.StopTexts | None = None
    seed: fields.Seed | None = None
    json_schema: fields.JsonSchema | None = None
    regex: fields.Regex | None = None
    grammar: fields.Lark | None = None
    cache: fields.UseCache | None = None


class GenerateRequest(_Sampling, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Continue a text; every field but the prompt may be left out or null."""

    prompt: fields.PromptText


class GenerateResponse(Struct, frozen=True, kw_only=True):
    """The text that follows the prompt; these three fields and no others."""

    model: Annotated[str, Meta(description="Name of the model that answered, aliases resolved.")]
    output: Annotated[str, Meta(description="Text after the prompt, without the stop string.")]
    cached: Annotated[
        bool, Meta(description="Whether nothing was computed for it: it was kept, or an equal request made it.")
    ]


class BatchRequest(_Sampling, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Continue several texts under the same parameters; one request and one reservation for all of them."""

    prompts: Annotated[
        list[fields.PromptText],
        Meta(min_length=1, max_length=MAX_BATCH, description="1 to 64 texts; each has the same seed, if any."),
    ]


class BatchError(Struct, frozen=True, kw_only=True):
    """Why one prompt has no answer."""

    code: Annotated[str, Meta(description="As of the errors of /v1/generate.")]
    message: Annotated[str, Meta(description="What happened, and what would help.")]


class BatchResult(Struct, frozen=True, kw_only=True):
    """What became of one prompt."""

    output: Annotated[str, Meta(description="Text after the prompt, without the stop string; empty with an error.")]
    cached: Annotated[bool, Meta(description="As of /v1/generate; also true for a prompt that came twice.")]
    prompt_tokens: Annotated[int, Meta(description="Tokens of the prompt; 0 with an error.")]
    completion_tokens: Annotated[int, Meta(description="Tokens generated; 0 with an error.")]
    finish_reason: Annotated[Finish | None, Meta(description="Why the text ends; null with an error.")]
    error: Annotated[BatchError | None, Meta(description="Null, unless this prompt failed while others did not.")] = (
        None
    )


class BatchResponse(Struct, frozen=True, kw_only=True):
    """Answers in the order of the prompts."""

    model: Annotated[str, Meta(description="Name of the model that answered, aliases resolved.")]
    results: Annotated[list[BatchResult], Meta(description="One per prompt.")]


class StreamUsage(Struct, frozen=True):
    """Token counts of a stream."""

    prompt_tokens: Annotated[int, Meta(description="Tokens of the prompt.")]
    completion_tokens: Annotated[int, Meta(description="Tokens generated, the end-of-turn token included.")]
    cached_tokens: Annotated[int, Meta(description="Tokens of the prompt that were not computed again.")]


class StreamEvent(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One event of `/v1/stream`: text, the last text with its reason, then the counts; `data: [DONE]` follows."""

    text: Annotated[str, Meta(description="Text to append.")] | UnsetType = UNSET
    finish_reason: Annotated[Finish, Meta(description="Why the text ends.")] | UnsetType = UNSET
    model: Annotated[str, Meta(description="With the counts: name of the model that answered.")] | UnsetType = UNSET
    cached: Annotated[bool, Meta(description="With the counts: as of /v1/generate.")] | UnsetType = UNSET
    usage: Annotated[StreamUsage, Meta(description="Tokens read and generated.")] | UnsetType = UNSET


def sampling(body: _Sampling, default_max_tokens: int) -> dict[str, Any]:
    """Read the parameters that the native routes share, as fields of `Ask`.

    Raises:
        errors.InvalidRequest: More than one form of the answer is asked for.
    """
    return {
        "model": body.model,
        "max_tokens": body.max_new_tokens,
        "default_max_tokens": default_max_tokens,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "top_p": body.top_p or 1.0,
        "top_k": body.top_k or 0,
        "min_p": body.min_p or 0.0,
        "presence_penalty": body.presence_penalty or 0.0,
        "frequency_penalty": body.frequency_penalty or 0.0,
        "stop": fields.stop_tuple(body.stop),
        "seed": body.seed,
        "form": _form(body),
    }


def _form(body: _Sampling) -> Grammar | None:
    kinds: dict[Literal["json_schema", "regex", "lark"], str | None] = {
        "json_schema": None if body.json_schema is None else msgspec.json.encode(body.json_schema).decode(),
        "regex": body.regex,
        "lark": body.grammar,
    }
    asked = [Grammar(kind=kind, text=text) for kind, text in kinds.items() if text is not None]
    if len(asked) > 1:
        raise errors.InvalidRequest("Send one of json_schema, regex and grammar", param="json_schema")
    return asked[0] if asked else None
