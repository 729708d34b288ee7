"""Files into the box and out of it, piece by piece."""

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from trainyard.sandbox.inside import frames
from trainyard.sandbox.inside.runner_machine import Machine
from trainyard.sandbox.inside.workspace import Folder, Incoming, Refused

_MAX_INCOMING = 16
_OUTPUTS = ("stdout", "stderr")


class Transfers:
    """`put`, its `data`, and `get`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._spool = Folder(machine.setup.spool)
        self._incoming: dict[Any, Incoming] = {}

    def folder(self, order: Mapping[str, Any]) -> Folder:
        """The place that an order names."""
        match order.get("place"):
            case "data":
                return self._machine.files
            case "spool":
                return self._spool
            case place:
                raise Refused("invalid_path", f"there is no place {place!r}; it is 'data' or 'spool'")

    def put(self, order: frames.Header, _payload: bytes) -> None:
        """Begin to take a file; `data` frames follow."""
        if len(self._incoming) >= _MAX_INCOMING:
            raise Refused("busy", f"{_MAX_INCOMING} files are on their way already")
        self._incoming[order["id"]] = self.folder(order).receive(order["path"], order["size"], order["mode"])

    def data(self, header: frames.Header, payload: bytes) -> None:
        """Take a piece; one that belongs to no file comes after its `put` has failed."""
        incoming = self._incoming.get(header["id"])
        if incoming is None:
            return
        try:
            if header.get("abandoned"):
                raise Refused("wrong_size", "the sender has given the file up")
            incoming.write(payload)
            if not header["last"]:
                return
            incoming.finish()
            answer = {"event": "done"}
        except Refused as refused:
            incoming.abandon()
            answer = {"event": "failed", "code": refused.code, "message": str(refused)}
        del self._incoming[header["id"]]
        self._machine.wire.send({"id": header["id"], **answer})

    def get(self, order: frames.Header, _payload: bytes) -> None:
        """Give a file, or `bytes` of it from `offset` on, as long as it is the `version` that was begun with."""
        descriptor = self._open(order)
        try:
            about = os.fstat(descriptor)
            version = f"{about.st_ino}-{about.st_size}-{about.st_mtime_ns}"
            if order.get("version", version) != version:
                raise Refused("changed", f"{order['path']!r} was changed while it was read")
            offset = order.get("offset", 0)
            end = min(offset + order.get("bytes", about.st_size), about.st_size)
            while True:
                piece = os.pread(descriptor, min(frames.PIECE_BYTES, end - offset), offset) if end > offset else b""
                offset += len(piece)
                is_last = offset >= end or not piece
                self._machine.wire.send({"id": order["id"], "event": "data", "last": is_last}, piece)
                if is_last:
                    break
        finally:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._machine.wire.send({"id": order["id"], "event": "done", "size": about.st_size, "version": version})

    def _open(self, order: Mapping[str, Any]) -> int:
        output = self._machine.outputs.get(order["path"]) if order.get("place") == "spool" else None
        if order.get("place") == "spool" and order["path"] in _OUTPUTS:
            if output is None:
                raise Refused("not_found", "nothing has run yet")
            return output.open_whole()
        return self.folder(order).open_file(order["path"])
