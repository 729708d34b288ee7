"""What a wire makes of a request: a whole answer or a stream, as bytes, before latency and faults touch it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer in one piece.

    Attributes:
        tokens: That were generated for it, for the latency.
    """

    body: bytes
    status: int = 200
    content_type: str = JSON
    tokens: int = 0
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Streamed:
    """An answer in pieces.

    Attributes:
        events: Complete events, in order.
        error_event: What the wire sends when it fails in the middle.
        garbage_event: An event that cannot be decoded.
    """

    events: Sequence[bytes]
    content_type: str
    error_event: bytes
    garbage_event: bytes


Answer = Whole | Streamed
