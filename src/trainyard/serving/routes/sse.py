"""Server-sent events."""

from typing import Final

import msgspec

from trainyard.core import errors
from trainyard.core.http import dialects
from trainyard.core.http.dialects import Dialect

HEARTBEAT: Final = b": still working\n\n"
DONE: Final = b"data: [DONE]\n\n"

_encoder = msgspec.json.Encoder()


def data(body: object) -> bytes:
    """Write one event."""
    return b"data: " + _encoder.encode(body) + b"\n\n"


def failure(error: errors.TrainyardError, request_id: str, dialect: Dialect) -> bytes:
    """Write the event that ends a stream which cannot go on: the body that the error would have had as an answer."""
    return data(dialects.render(error, dialect, request_id).body)
