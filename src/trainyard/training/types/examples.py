"""Training examples: plain text, or a chat of which the assistant's turns are learned."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import pydantic
from pydantic import Field
from pydantic_core import PydanticCustomError

from trainyard.training.types.base import Request, Text

_LATER = {
    "preference": ("prompt", "chosen", "rejected"),
    "GRPO": ("responses", "rewards"),
    "PPO": ("response", "reward", "value"),
}
_USABLE = "Must provide one of: text, messages"


class Message(Request):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant", "tool"] = Field(description="Who speaks.")
    content: Text = Field(description="What is said.")


Messages = Annotated[list[Message], Field(min_length=1, max_length=50)]
"""A chat of 1 to 50 turns."""


class TrainingExample(Request):
    """One example, in exactly one format."""

    refused: ClassVar[Mapping[str, str]] = {
        field: f"{field} belongs to {kind} examples, which no loss of this server reads. {_USABLE}"
        for kind, fields in _LATER.items()
        for field in fields
    }

    text: Text | None = Field(default=None, description="Every token but the first is learned.")
    messages: Messages | None = Field(
        default=None, description="A chat; the assistant's tokens are learned, each end of turn included."
    )

    @pydantic.model_validator(mode="before")
    @classmethod
    def check_format(cls, data: object) -> object:
        """Refuse an example in no format or in several."""
        if not isinstance(data, Mapping):
            return data
        given = [name for name, value in data.items() if value is not None]
        usable = [name for name in ("text", "messages") if name in given]
        if len(usable) == 2 or (usable and cls.refused.keys() & set(given)):
            raise PydanticCustomError("several_formats", "Provide only ONE format per example: text or messages")
        if not usable and not cls.refused.keys() & set(given):
            raise PydanticCustomError("no_format", _USABLE)
        return data
