"""The Wire Protocol: how one dialect asks one prompt and reads what comes back."""

from dataclasses import dataclass
from typing import Protocol

from trainyard.serving.backends.remote.framing import Framing
from trainyard.serving.types import Piece


class Garbage(ValueError):
    """What came is no answer in this dialect."""


class Reported(Exception):
    """The upstream says in its answer, after status 200, that it failed."""


class Filtered(Exception):
    """The upstream withheld the answer because of what it says."""


@dataclass(frozen=True, slots=True)
class Repair:
    """An answer that did not keep its form, to be asked for again.

    Attributes:
        said: The answer.
        fault: What is wrong with it.
    """

    said: str
    fault: str


class Reader(Protocol):
    """Reads the events of one stream."""

    @property
    def is_done(self) -> bool:
        """Whether the last event has come."""
        ...

    def push(self, event: bytes) -> Piece | None:
        """Take the data of an event; returns what is new, None when nothing is.

        Raises:
            Garbage: It is no event of this dialect.
            Reported: It is an error.
            Filtered: The answer ends because of what it says.
        """
        ...

    def end(self) -> Piece | None:
        """Give the last piece, with the finish reason; None when the stream broke off before there was one."""
        ...


class Wire(Protocol):
    """One prompt in one dialect."""

    @property
    def path(self) -> str:
        """Below the upstream's base URL."""
        ...

    @property
    def max_tokens(self) -> int:
        """Most tokens of one answer."""
        ...

    def body(self, seed: int | None, *, is_stream: bool, has_usage: bool, repair: Repair | None = None) -> bytes:
        """Write the request.

        Args:
            seed: Of this choice.
            is_stream: Whether the answer comes in pieces.
            has_usage: Whether the upstream can be asked to count tokens in a stream.
            repair: An earlier answer and its fault.
        """
        ...

    def whole(self, raw: bytes) -> Piece:
        """Read a whole answer; raises as `Reader.push`."""
        ...

    def reader(self) -> Reader:
        """Begin to read a stream."""
        ...

    def framing(self) -> Framing:
        """Begin to cut a stream into events."""
        ...
