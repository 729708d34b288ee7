"""What is kept of an answer."""

from typing import Final

import msgspec

from trainyard.serving.types import Piece
from trainyard.serving.types.tally import Usage

FORMAT: Final = 1


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One finished answer.

    Attributes:
        choices: One whole piece per answer, by index.
        at: When it was made, Unix seconds.
        format: Of these bytes; others are misses.
    """

    choices: tuple[Piece, ...]
    prompt_tokens: int
    completion_tokens: int
    at: float
    format: int = FORMAT

    @property
    def usage(self) -> Usage:
        """As the first answer said it, with nothing computed this time."""
        return Usage(self.prompt_tokens, self.completion_tokens, self.prompt_tokens)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def encode(entry: Entry) -> bytes:
    """Write an entry."""
    return _encoder.encode(entry)


def decode(raw: bytes) -> Entry | None:
    """Read an entry; None when another version wrote it."""
    try:
        found = _decoder.decode(raw)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None
    return found if found.format == FORMAT else None
