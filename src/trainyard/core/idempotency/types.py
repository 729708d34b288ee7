"""What is remembered of a request that may be sent again."""

import hashlib
from dataclasses import dataclass
from typing import Final

import msgspec

from trainyard.core import errors

MAX_KEY_CHARS: Final = 255


@dataclass(frozen=True, slots=True)
class Scope:
    """Within which a key means one request.

    Attributes:
        route: Template of the path.
        key: As the caller chose it.
        user: Whose key it is; those of others in the tenant are other keys. Empty: of the tenant.
    """

    tenant: str
    route: str
    key: str
    user: str = ""

    @property
    def stored_key(self) -> str:
        """What stands for user and key in a row, at most `MAX_KEY_CHARS` long."""
        return hashlib.sha256(f"{self.user}\0{self.key}".encode()).hexdigest() if self.user else self.key


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """An answer as it went out.

    Attributes:
        is_stream: Its body is server-sent events.
    """

    status: int
    body: bytes
    is_stream: bool = False


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Answer)


def encode(answer: Answer) -> bytes:
    """Write an answer for its row."""
    return _encoder.encode(answer)


def decode(raw: bytes) -> Answer:
    """Read the answer of a row."""
    return _decoder.decode(raw)


def check_key(key: str) -> str:
    """See that a key is one.

    Raises:
        errors.InvalidRequest: It is empty, too long, or holds what cannot be printed.
    """
    if 0 < len(key) <= MAX_KEY_CHARS and key.isascii() and key.isprintable():
        return key
    raise errors.InvalidRequest(
        f"Idempotency-Key is 1 to {MAX_KEY_CHARS} printable ASCII characters, such as a UUID",
        code="invalid_idempotency_key",
        param="Idempotency-Key",
    )
