"""Base classes of the wire types: strict requests that name what would be right, frozen results."""

import difflib
from collections.abc import Mapping
from typing import Annotated, ClassVar

import pydantic
from pydantic_core import InitErrorDetails, PydanticCustomError

MAX_TEXT_CHARS = 32_768
"""Longest text in one field; Signal's bound."""


def refusal(title: str, reasons: Mapping[str, str], data: Mapping[str, object]) -> pydantic.ValidationError:
    """Build one validation error that blames each named field with its own reason.

    Args:
        title: Name of the type that was to be read.
        reasons: Field name -> what is wrong and what would be right.
        data: Where the blamed values stand.
    """
    lines = [
        InitErrorDetails(
            type=PydanticCustomError("refused", "{reason}", {"reason": reason}), loc=(name,), input=data.get(name)
        )
        for name, reason in reasons.items()
    ]
    return pydantic.ValidationError.from_exception_data(title, lines)


Text = Annotated[str, pydantic.Field(min_length=1, max_length=MAX_TEXT_CHARS)]
"""A text of 1 to 32,768 characters."""


class Request(pydantic.BaseModel):
    """What a client sends: exact JSON types, finite numbers, no unknown field.

    Attributes:
        refused: Fields of Signal's interface that this server does not honour -> why, and what can be used. Null is not
            a wish and passes.
    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
    refused: ClassVar[Mapping[str, str]] = {}

    @pydantic.model_validator(mode="before")
    @classmethod
    def name_unknown_fields(cls, data: object) -> object:
        """Refuse fields that do not exist here, each with the nearest one that does."""
        if not isinstance(data, Mapping):
            return data
        wishes = {name: value for name, value in data.items() if not (name in cls.refused and value is None)}
        reasons = {str(name): cls._why(str(name)) for name in wishes if name not in cls.model_fields}
        if reasons:
            raise refusal(cls.__name__, reasons, wishes)
        return wishes

    @classmethod
    def _why(cls, name: str) -> str:
        if name in cls.refused:
            return cls.refused[name]
        near = difflib.get_close_matches(name, cls.model_fields, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"There is no field {name[:80]!r}; {hint}the fields are: {', '.join(cls.model_fields)}"


class Result(pydantic.BaseModel):
    """What the server answers."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
