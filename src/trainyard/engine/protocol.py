"""The wire of an engine: u32 length + msgpack `[stream, kind, payload]`, over a unix socket.

The payload is the msgpack encoding of one message, as bytes. A message longer than a part is sent as several frames
of the same stream and kind whose `last` is false but for the final one, so that tokens and cancellations pass between
the parts of a large batch.
"""

import enum
import struct
from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgspec

from trainyard.core import errors
from trainyard.engine import calls, types

FRAME_BYTES: Final = 64 * 1024 * 1024
"""No frame is longer; a longer one ends the connection before its body is read."""

PART_BYTES: Final = 8 * 1024 * 1024
"""A message is cut into parts of this size; small enough that a token waits for one part only."""

MESSAGE_BYTES: Final = 2 * 1024 * 1024 * 1024
"""No message is longer; a sender is told so before anything is sent."""

CREDIT_TOKENS: Final = 256
"""Tokens that a stream may be ahead of its reader."""

_LENGTH = struct.Struct("<I")
_Decoded = TypeVar("_Decoded")


class Kind(enum.StrEnum):
    """What a frame is."""

    CALL = "call"
    RESULT = "result"
    ERROR = "error"
    TOKENS = "tokens"
    CANCEL = "cancel"
    CREDIT = "credit"
    PING = "ping"


class ProtocolError(errors.Unavailable):
    """The other side does not speak this protocol; the connection is of no further use."""

    code = "engine_protocol"


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """One frame; `last` is false on all parts of a message but the final one."""

    stream: int
    kind: Kind
    payload: bytes
    last: bool = True


class Tokens(msgspec.Struct, frozen=True, array_like=True):
    """New tokens of one stream in one decode tick."""

    stream: int
    events: list[types.TokenEvent]


class WireError(msgspec.Struct, frozen=True):
    """An error of `trainyard.core.errors` by class name and attributes."""

    name: str
    message: str
    code: str
    param: str | None
    retry_after_s: float | None
    data: dict[str, Any]


_encoder = msgspec.msgpack.Encoder()
_frame_decoder = msgspec.msgpack.Decoder(Frame)
call_decoder: Final = msgspec.msgpack.Decoder(calls.AnyCall)
tokens_decoder: Final = msgspec.msgpack.Decoder(list[Tokens])
credit_decoder: Final = msgspec.msgpack.Decoder(int)
_error_decoder = msgspec.msgpack.Decoder(WireError)


def encode(message: object) -> bytes:
    """Encode one message as msgpack."""
    return _encoder.encode(message)


def decode(decoder: msgspec.msgpack.Decoder[_Decoded], payload: bytes) -> _Decoded:
    """Decode one message.

    Raises:
        ProtocolError: the bytes are not such a message.
    """
    try:
        return decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"a message cannot be read: {error}") from error


def frames(stream: int, kind: Kind, payload: bytes = b"", part_bytes: int = PART_BYTES) -> Iterator[bytes]:
    """Cut one message into ready frames.

    Raises:
        errors.TooLarge: the message is over `MESSAGE_BYTES`; raised before the first frame.
    """
    if len(payload) > MESSAGE_BYTES:
        raise errors.TooLarge(
            f"a message of {len(payload)} bytes is over the engine's bound of {MESSAGE_BYTES}; send less at once"
        )
    starts = range(0, len(payload), part_bytes) if payload else range(1)
    for start in starts:
        end = start + part_bytes
        body = _encoder.encode(Frame(stream, kind, payload[start:end], end >= len(payload)))
        yield _LENGTH.pack(len(body)) + body


class FrameReader:
    """Frames out of bytes that arrive in any pieces."""

    def __init__(self, frame_bytes: int = FRAME_BYTES) -> None:
        self._buffer = bytearray()
        self._frame_bytes = frame_bytes

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes and return the frames that are complete now.

        Raises:
            ProtocolError: a frame is over the bound or is not a frame.
        """
        self._buffer += data
        complete: list[Frame] = []
        start = 0
        while (end := self._end_of_frame(start)) is not None:
            complete.append(decode(_frame_decoder, bytes(memoryview(self._buffer)[start + _LENGTH.size : end])))
            start = end
        del self._buffer[:start]
        return complete

    def _end_of_frame(self, start: int) -> int | None:
        if len(self._buffer) - start < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer, start)
        if length > self._frame_bytes:
            raise ProtocolError(f"a frame of {length} bytes is over the bound of {self._frame_bytes}")
        end = start + _LENGTH.size + int(length)
        return end if end <= len(self._buffer) else None


class Assembler:
    """Whole messages out of frames: joins the parts of each stream."""

    def __init__(self, message_bytes: int = MESSAGE_BYTES) -> None:
        self._parts: dict[tuple[int, Kind], bytearray] = {}
        self._message_bytes = message_bytes

    def add(self, frame: Frame) -> Frame | None:
        """Take a frame; return the whole message when this was its last part.

        Raises:
            ProtocolError: the parts of all unfinished messages together are over the bound.
        """
        key = (frame.stream, frame.kind)
        if frame.last and key not in self._parts:
            return frame
        held = self._parts.setdefault(key, bytearray())
        held += frame.payload
        if sum(map(len, self._parts.values())) > self._message_bytes:
            raise ProtocolError(f"unfinished messages are over the bound of {self._message_bytes} bytes")
        if not frame.last:
            return None
        del self._parts[key]
        return Frame(frame.stream, frame.kind, bytes(held))

    def drop(self, stream: int) -> None:
        """Forget the parts of a stream that was cancelled."""
        for key in [key for key in self._parts if key[0] == stream]:
            del self._parts[key]


def encode_error(error: errors.TrainyardError) -> bytes:
    """Encode an error so that `decode_error` gives an equal one."""
    wire = WireError(type(error).__name__, error.message, error.code, error.param, error.retry_after_s, error.data)
    return _encoder.encode(wire)


def decode_error(payload: bytes) -> errors.TrainyardError:
    """Rebuild an error as the class that it was; a class that this side does not know becomes `TrainyardError`."""
    wire = decode(_error_decoder, payload)
    found = getattr(errors, wire.name, None)
    cls = found if isinstance(found, type) and issubclass(found, errors.TrainyardError) else errors.TrainyardError
    return cls(wire.message, code=wire.code, param=wire.param, retry_after_s=wire.retry_after_s, data=wire.data)
