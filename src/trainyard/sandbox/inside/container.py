"""The bytes of a checkpoint: what a reader may know of them without unpickling anything.

    byte 0        3; 1 and 2 are lz4-compressed pickles of other services and are refused
    bytes 1-4     big-endian u32, bytes of the header
    header        JSON {"python": "3.11.7", "pickles_sha256", "variables": [{"name", "bytes", "buffers": [bytes, …]}]},
                  then spaces
    pickles       one after the other, as the variables are listed
    buffers       those of all variables in the same order, each at a multiple of 64

The lengths say where everything lies, and the file ends with its last byte. The digest is that of all pickles: damaged
ones can crash an interpreter, in a buffer only numbers would differ, and its keeper addresses the file by its content.
Standard library only; the server reads headers with this file, the interpreter reads and writes whole containers.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass

FORMAT = 3
START = struct.Struct("!BI")
ALIGNMENT = 64
"""What arrays of vectorised code like best; a page is a multiple of it."""
MAX_HEADER_BYTES = 2 << 20
"""The server reads headers of anybody's states: so much takes it some hundred milliseconds."""
NAMES_BYTES = 1 << 20
"""Of the header for names and what belongs to each; the rest is for the buffers, 16,384 of them in 256 MiB."""


class BadState(ValueError):
    """These bytes are no checkpoint that can be read; the text says why, and what would be one."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of a checkpoint.

    Attributes:
        pickle_bytes: Of its pickle; what it shares with an earlier variable is there.
        buffer_bytes: Of each buffer that lies outside of the pickle.
    """

    name: str
    pickle_bytes: int
    buffer_bytes: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """What the checkpoint has for it alone."""
        return self.pickle_bytes + sum(self.buffer_bytes)


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before the pickles.

    Attributes:
        python: Version of the interpreter that wrote it.
        pickles_sha256: In hexadecimal digits.
        body_at: Offset of the first pickle.
    """

    python: str
    pickles_sha256: str
    variables: tuple[Variable, ...]
    body_at: int

    @property
    def size_bytes(self) -> int:
        """Of the whole container."""
        end = self.buffers_at
        for length in self._buffer_lengths():
            end = aligned(end) + length
        return end

    @property
    def buffers_at(self) -> int:
        """Offset of the end of the pickles."""
        return self.body_at + sum(variable.pickle_bytes for variable in self.variables)

    def buffers(self) -> Iterator[tuple[int, int]]:
        """Give begin and end of every buffer."""
        at = self.buffers_at
        for length in self._buffer_lengths():
            at = aligned(at)
            yield at, at + length
            at += length

    def _buffer_lengths(self) -> Iterator[int]:
        return (length for variable in self.variables for length in variable.buffer_bytes)


def aligned(offset: int) -> int:
    """Round up to the next place where a buffer may begin."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def build(python: str, pickles_sha256: str, variables: tuple[Variable, ...]) -> tuple[Header, bytes]:
    """Lay out a container; gives its header and the bytes that stand before the pickles."""
    listed = [{"name": v.name, "bytes": v.pickle_bytes, "buffers": list(v.buffer_bytes)} for v in variables]
    fields = {"python": python, "pickles_sha256": pickles_sha256, "variables": listed}
    text = json.dumps(fields, separators=(",", ":")).encode()
    body_at = aligned(START.size + len(text))
    text = text.ljust(body_at - START.size)
    return Header(python, pickles_sha256, variables, body_at), START.pack(FORMAT, len(text)) + text


def entry_bytes(name: str) -> int:
    """Bytes that a variable takes of a header, its buffers left out."""
    return len(json.dumps({"name": name, "bytes": 1 << 40, "buffers": []}))


def header_bytes(start: bytes) -> int:
    """Tell from the first 5 bytes how many belong to the header, those 5 included.

    Raises:
        BadState: Not the beginning of a container.
    """
    if len(start) < START.size:
        raise BadState(f"{len(start)} bytes are too few for a state; it has {START.size} before its header")
    version, length = START.unpack_from(start)
    if version != FORMAT:
        raise BadState(f"a state begins with the byte {FORMAT}, these bytes with {version}")
    if length > MAX_HEADER_BYTES:
        raise BadState(f"a header of {length} bytes; at most {MAX_HEADER_BYTES} are read")
    return START.size + int(length)


def state_header(first: bytes) -> Header:
    """Read the header from bytes that hold at least all of it.

    Raises:
        BadState: They are no container, or end too early.
    """
    end = header_bytes(first)
    if len(first) < end:
        raise BadState(f"the header ends at byte {end}, these are {len(first)} bytes")
    try:
        fields = json.loads(bytes(first[START.size : end]))
    except (ValueError, RecursionError) as error:
        raise BadState("the header of the state is no JSON") from error
    try:
        variables = tuple(_variable(entry) for entry in fields["variables"])
        return Header(_text(fields["python"]), _text(fields["pickles_sha256"]), variables, end)
    except (KeyError, TypeError) as error:
        raise BadState("the header of the state lacks fields, or has them in another form") from error


def _variable(entry: dict[str, object]) -> Variable:
    buffers = entry["buffers"]
    if not isinstance(buffers, list):
        raise TypeError("buffers")
    return Variable(_text(entry["name"]), _length(entry["bytes"]), tuple(_length(length) for length in buffers))


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        raise TypeError("text")  # halves of surrogate pairs, which are in no encoding, cannot be printed either
    return value


def _length(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 48:
        raise TypeError("length")
    return value
