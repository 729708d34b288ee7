"""Tools in OpenAI's requests and answers, and what an answer has to look like."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

ToolName = Annotated[
    str,
    Meta(min_length=1, max_length=64, pattern="^[a-zA-Z0-9_-]+$", description="1-64 letters, digits, `_` and `-`."),
]
CallId = Annotated[str, Meta(min_length=1, max_length=128, description="`call_…`, as the answer with the call had it.")]
Arguments = Annotated[str, Meta(max_length=1_000_000, description="Arguments as JSON text.")]
Schema = Annotated[dict[str, Any], Meta(description="JSON Schema, draft 2020-12.")]
FunctionType = Annotated[Literal["function"], Meta(description="Only `function`.")]
Description = Annotated[str, Meta(max_length=16_384, description="What it is for; the model reads it.")]


class Function(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function that the model may ask for."""

    name: ToolName
    description: Description | None = None
    parameters: Annotated[Schema, Meta(description="Of its arguments, an object; null and absent = none.")] | None = (
        None
    )
    strict: Annotated[bool, Meta(description="Arguments follow the schema whatever this says.")] | None = None


class ToolSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tool."""

    type: FunctionType
    function: Annotated[Function, Meta(description="The function.")]


class FunctionName(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A function by its name."""

    name: ToolName


class NamedTool(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tool that has to be called."""

    type: FunctionType
    function: Annotated[FunctionName, Meta(description="One of `tools`.")]


ToolChoice = Annotated[
    Literal["none", "auto", "required"] | NamedTool | None,
    Meta(
        description="`auto` (default with tools): text or calls; `none`: text; `required`: at least one call; or the "
        "tool that has to be called."
    ),
]


class CalledFunction(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was called, with what."""

    name: ToolName
    arguments: Arguments


class ToolCall(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One call of the assistant."""

    id: CallId
    type: FunctionType
    function: Annotated[CalledFunction, Meta(description="The call.")]


class FunctionDelta(Struct, frozen=True, kw_only=True):
    """What is new of a call."""

    name: Annotated[str, Meta(description="With the first part only.")] | UnsetType = UNSET
    arguments: Annotated[str, Meta(description="JSON text to append.")] | UnsetType = UNSET


class ToolCallDelta(Struct, frozen=True, kw_only=True):
    """A part of a call."""

    index: Annotated[int, Meta(description="Number of the call within the answer, from 0.")]
    id: Annotated[str, Meta(description="`call_…`; with the first part only.")] | UnsetType = UNSET
    type: Annotated[Literal["function"], Meta(description="With the first part only.")] | UnsetType = UNSET
    function: Annotated[FunctionDelta, Meta(description="What is new.")]


class NamedSchema(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A schema with its name."""

    name: ToolName
    schema: Annotated[Schema, Meta(description="The text of an answer that ends with `stop` is an instance of it.")]
    description: Description | None = None
    strict: Annotated[bool, Meta(description="Answers follow the schema whatever this says.")] | None = None


class Format(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the text of an answer has to be."""

    type: Annotated[
        Literal["text", "json_object", "json_schema"],
        Meta(description="Any text, any JSON object, or JSON of the schema in `json_schema`."),
    ]
    json_schema: Annotated[NamedSchema | None, Meta(description="With type `json_schema` only.")] = None


ResponseFormat = Annotated[
    Format | None,
    Meta(description="What the text of the answer has to be; a keyword of a schema that cannot be kept is refused."),
]
