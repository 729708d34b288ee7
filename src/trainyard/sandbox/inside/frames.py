"""Frames between the server and a runner, and between a runner and its interpreter.

A frame is two big-endian u32 (bytes of the header, bytes of the payload), a JSON object, then raw bytes. Every order
has an `op` and an `id`; every answer carries the `id` of its order. An answer is `{"id", "event", ...}` with the events

    out       {"stream": "stdout"|"stderr"} + bytes        while a run with `stream` goes on
    data      {"last": bool} + bytes                       a piece of a content, at most PIECE_BYTES
    done      what the order gives back                    the last answer of an order that worked
    failed    {"code", "message"}                          the last answer of an order that did not

and the orders

    run       see `types.orders.Order`; payload = standard input. done = `types.orders.Report` + the kept bytes of
              standard output, then those of standard error
    interrupt sends SIGINT to what runs; done at once
    put       {"place", "path", "size", "mode"}; `data` frames with the same id follow from the sender until `last`,
              which may be `abandoned`: the file is not written then
    get       {"place", "path", "offset"?, "bytes"?, "version"?}; `data` frames come, then done {"size", "version"}.
              With `offset` and `bytes` a part of it, so that nobody has to hold all; with the `version` of an earlier
              part it fails with `changed` when the file is another by now
    delete    {"place", "path"}; done {"existed": bool}
    accept    what lies in the workspace now is known: later reports tell what differs from it
    variables done {"variables": [{"name", "type", "bytes", "preview"}]}
    dump      {"max_bytes"}; writes the state into place `spool`, path `state`; done = `types.orders.Dumped`
    load      reads it from there; done = `types.orders.Loaded`
    reset     a new interpreter, files untouched; what runs is killed, and reported, first
    usage     done = `types.orders.Usage`

`variables`, `dump` and `load` have the memory limit of the last run and 60 s, unless they bring `timeout_s`, `cpu_s` or
`memory_bytes` of their own; an interpreter that goes beyond is replaced, and the order fails with `interpreter_gone`.

One run at a time; `interrupt`, `reset`, `usage` and `get` are answered while it goes on, all else fails with `busy`.
Codes of `failed`: invalid_path not_found wrong_size workspace_full changed busy bad_state interpreter_gone io_error
unknown_order. Places: `data` is /mnt/data, what the
code sees; `spool` belongs to the runner: `state`, `artifact` (what the last program was compiled to, see
`types.orders.Program`), and `stdout` and `stderr` with the whole output of the last run.
End of file on the socket ends the box with everything in it.
"""

import json
import struct
from collections.abc import Iterator
from typing import Any

LENGTHS = struct.Struct("!II")
MAX_HEADER_BYTES = 16 << 20
PIECE_BYTES = 256 << 10
MAX_PAYLOAD_BYTES = 64 << 20
"""Of one frame: what a run keeps of its output, or its standard input."""

Header = dict[str, Any]


class BadFrame(Exception):
    """The peer does not keep to the protocol."""


def encode(header: Header, payload: bytes | memoryview = b"") -> bytes:
    """Put one frame together."""
    head = _encode(header).encode()
    return b"".join((LENGTHS.pack(len(head), len(payload)), head, payload))


def _refuse(name: str) -> None:
    """Take no NaN and no Infinity, which JSON (RFC 8259) does not have either."""
    raise ValueError(name)


_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.JSONDecoder(parse_constant=_refuse).decode


class Reader:
    """Takes bytes as they come, gives frames as they are complete."""

    def __init__(self, max_header_bytes: int = MAX_HEADER_BYTES, max_payload_bytes: int = MAX_PAYLOAD_BYTES) -> None:
        self._bounds = (max_header_bytes, max_payload_bytes)
        self._held = bytearray()

    def feed(self, received: bytes) -> Iterator[tuple[Header, bytes]]:
        """Take bytes; gives (header, payload) of every frame that they complete.

        Raises:
            BadFrame: Too long, or its header is no JSON object.
        """
        self._held += received
        while (frame := self._take()) is not None:
            yield frame

    def _take(self) -> tuple[Header, bytes] | None:
        if len(self._held) < LENGTHS.size:
            return None
        head_bytes, payload_bytes = LENGTHS.unpack_from(self._held)
        if head_bytes > self._bounds[0] or payload_bytes > self._bounds[1]:
            raise BadFrame(f"a frame of {head_bytes} + {payload_bytes} bytes")
        end = LENGTHS.size + head_bytes + payload_bytes
        if len(self._held) < end:
            return None
        with memoryview(self._held) as view:
            head, payload = (
                bytes(view[LENGTHS.size : LENGTHS.size + head_bytes]),
                bytes(view[end - payload_bytes : end]),
            )
        del self._held[:end]
        try:
            header = _decode(head.decode("utf-8", "surrogatepass"))
        except (ValueError, RecursionError) as error:
            raise BadFrame("a header that is no JSON") from error
        if not isinstance(header, dict):
            raise BadFrame("a header that is no object")
        return header, payload
