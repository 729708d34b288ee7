"""Checkpoints: the variables of an interpreter as one file, and back.

All variables go through one pickler with one memo, each as a record of its own: what two of them share is written once
and is one object again afterwards, and the size and the failures of each are known at the cost of a single dump.
Buffers of arrays are not copied: they go straight from memory into the file, and come back as a mapping of it.
"""

import hashlib
import mmap
import os
import pickle
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from platform import python_version
from typing import Any, BinaryIO

from trainyard.sandbox.inside import border, container, pickling, salvage, unpickling

OUT_OF_BAND_BYTES = 16 << 10
"""Smaller buffers stand in the pickle: they cost little to copy, and hold no mapping of the whole file afterwards."""
MAX_DEPTH = 5_000
"""Recursion while pickling: enough for a chain of 2,000 objects, and far from the end of an 8 MiB stack."""

_PIECE_BYTES = 1 << 20


class TooLarge(Exception):
    """One variable alone is more than a checkpoint may hold."""


@dataclass
class _Record:
    """What became of one variable in a pass."""

    name: str
    chunks: list[bytes] = field(default_factory=list)
    buffers: list[memoryview] = field(default_factory=list)
    pickle_bytes: int = 0
    failure: str | None = None

    @property
    def size_bytes(self) -> int:
        return self.pickle_bytes + sum(view.nbytes for view in self.buffers)

    def described(self) -> container.Variable:
        return container.Variable(self.name, self.pickle_bytes, tuple(view.nbytes for view in self.buffers))


class _Pass:
    """One attempt at all variables with one memo; is the file and the buffer callback of its pickler."""

    def __init__(self, variables: dict[str, Any], namespace: dict[str, Any], max_bytes: int) -> None:
        self.records: list[_Record] = []
        self._max_bytes = max_bytes
        self._in_band_bytes = 0
        pickler = pickling.pickler_class()(self, namespace, self.take)
        for name, value in variables.items():
            self.records.append(_Record(name))
            kept = (pickler.home if value is namespace else value,)
            _, self.records[-1].failure = border.attempt(pickler.dump, kept)

    def write(self, data: Any) -> int:
        """Keep a piece of the pickle; beyond what a checkpoint may hold in all, only its size."""
        record = self.records[-1]
        piece = data if isinstance(data, bytes) else bytes(data)
        record.pickle_bytes += len(piece)
        self._in_band_bytes += len(piece)
        if record.pickle_bytes > self._max_bytes:
            record.chunks.clear()
            raise TooLarge(f"larger than the {self._max_bytes} bytes of a checkpoint")
        if self._in_band_bytes <= self._max_bytes:
            record.chunks.append(piece)
        return len(piece)

    def take(self, buffer: pickle.PickleBuffer) -> bool:
        """Keep a large buffer out of the pickle; whether it has to go in."""
        view = buffer.raw()
        if view.nbytes < OUT_OF_BAND_BYTES:
            return True
        self.records[-1].buffers.append(view)
        return False

    def rejected(self) -> dict[str, str]:
        """Name what has to be left out before this can be written: failures, else the largest until the rest fits."""
        failed = {record.name: record.failure for record in self.records if record.failure is not None}
        return failed or self._oversized()

    def _oversized(self) -> dict[str, str]:
        dropped: dict[str, str] = {}
        excess = self.layout()[0].size_bytes - self._max_bytes
        for record in sorted(self.records, key=lambda record: record.size_bytes, reverse=True):
            if excess <= 0:
                break
            dropped[record.name] = f"{record.size_bytes} bytes; with the others more than {self._max_bytes} in all"
            excess -= record.size_bytes
        return dropped

    def layout(self) -> tuple[container.Header, bytes]:
        """Lay out the file; of pickles that are too many to be kept the digest is not theirs."""
        digest = hashlib.sha256()
        for record in self.records:
            for chunk in record.chunks:
                digest.update(chunk)
        return container.build(python_version(), digest.hexdigest(), tuple(r.described() for r in self.records))

    def pieces(self) -> Iterator[bytes | memoryview]:
        """Give the bytes of the file in order, once: the pickles are forgotten on the way."""
        header, start = self.layout()
        yield start
        for record in self.records:
            record.chunks.reverse()
            while record.chunks:  # what is in the file need not be in memory as well
                yield record.chunks.pop()
        at = header.buffers_at
        views = (view for record in self.records for view in record.buffers)
        for (begin, end), view in zip(header.buffers(), views, strict=True):
            yield bytes(begin - at)
            yield view
            at = end


def dump(namespace: dict[str, Any], skip: Collection[str], descriptor: int, max_bytes: int) -> dict[str, Any]:
    """Write the variables of a namespace into an open file; gives the fields of `types.orders.Dumped`.

    Names in `skip` and those with two underscores at both ends are left out silently, for every interpreter has them;
    so are those that are no identifiers.

    Raises:
        OSError: The file cannot be written.
    """
    every = {name: value for name, value in list(namespace.items()) if _is_kept(name) and name not in skip}
    variables, dropped = _listable(every)
    depth = sys.getrecursionlimit()
    sys.setrecursionlimit(MAX_DEPTH)
    try:
        while rejected := (written := _Pass(variables, namespace, max_bytes)).rejected():
            dropped |= rejected
            variables = {name: value for name, value in variables.items() if name not in rejected}
    finally:
        sys.setrecursionlimit(depth)
    size_bytes, sha256 = _write(written.pieces(), descriptor)
    return {"size_bytes": size_bytes, "sha256": sha256, "kept": list(variables), "dropped": _reasons(dropped)}


def _listable(every: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Take as many variables as a header has room for; gives them, and the first of the others for all."""
    room = container.NAMES_BYTES
    variables: dict[str, Any] = {}
    for name, value in every.items():
        room -= container.entry_bytes(name)
        if room < 0:
            others = len(every) - len(variables)
            return variables, {name[:100]: f"with it {others} have no room in a checkpoint: too many or too long names"}
        variables[name] = value
    return variables, {}


def load(namespace: dict[str, Any], path: Path | str) -> dict[str, Any]:
    """Put the variables of a file into a namespace; gives the fields of `types.orders.Loaded`.

    Arrays are copy-on-write views of the file, which must not be shortened while they live; it may be removed.

    Raises:
        BadState: The file is no checkpoint, or is not whole.
        OSError: It cannot be read.
    """
    with Path(path).open("rb") as file:
        header = _whole_header(file.fileno())
        if _sha256(file, header.body_at, header.buffers_at) != header.pickles_sha256:
            raise container.BadState("the pickles of the state are not those that were written")
        mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
        values, dropped = _values(header, file, mapped, namespace)
    namespace.update(values)
    return {"restored": list(values), "dropped": _reasons(dropped)}


def _values(
    header: container.Header, file: BinaryIO, mapped: memoryview, namespace: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, str]]:
    def buffers() -> Iterator[memoryview]:
        return (mapped[begin:end] for begin, end in header.buffers())

    names = unpickling.Names(namespace, _foreign(header.python))
    file.seek(header.body_at)
    whole, failure = border.attempt(_all, unpickling.Reader(file, names, buffers()), header, file)
    if failure is None:
        return whole, {}
    file.seek(header.body_at)
    return _salvaged(salvage.Salvage(file, names, namespace, buffers()), header, file)


def _all(reader: unpickling.Reader, header: container.Header, file: BinaryIO) -> dict[str, Any]:
    return {variable.name: _value(reader, variable, file) for variable in header.variables}


def _value(reader: unpickling.Reader | salvage.Salvage, variable: container.Variable, file: BinaryIO) -> Any:
    end = file.tell() + variable.pickle_bytes
    record = reader.load()
    if type(record) is not tuple or len(record) != 1 or file.tell() != end:
        raise container.BadState("the pickle of a variable is not one of a state")
    return record[0]


def _salvaged(
    reader: salvage.Salvage, header: container.Header, file: BinaryIO
) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, Any] = {}
    dropped: dict[str, str] = {}
    damage: str | None = None
    for variable in header.variables:
        if damage is None:
            value, damage = border.attempt(_value, reader, variable, file)
        reason = f"the state is damaged: {damage}" if damage else reader.loss(value)
        if reason is None:
            values[variable.name] = value
        else:
            dropped[variable.name] = reason
    return values, dropped


def _foreign(version: str) -> str | None:
    """Give the version when its bytecode is not this interpreter's."""
    return None if version.split(".")[:2] == python_version().split(".")[:2] else version


def _whole_header(descriptor: int) -> container.Header:
    start = os.pread(descriptor, container.START.size, 0)
    header = container.state_header(os.pread(descriptor, container.header_bytes(start), 0))
    strange = next((variable.name for variable in header.variables if not _is_kept(variable.name)), None)
    if strange is not None:
        raise container.BadState(f"a state holds no variable of the name {strange!r}")
    size_bytes = os.fstat(descriptor).st_size
    if header.size_bytes != size_bytes:
        raise container.BadState(f"the header tells of {header.size_bytes} bytes, the state has {size_bytes}")
    return header


def _sha256(file: BinaryIO, begin: int, end: int) -> str:
    """Digest a part of a file by pieces: read through a mapping, all of it would count as memory once more."""
    digest = hashlib.sha256()
    for at in range(begin, end, _PIECE_BYTES):
        digest.update(os.pread(file.fileno(), min(_PIECE_BYTES, end - at), at))
    return digest.hexdigest()


def _write(pieces: Iterator[bytes | memoryview], descriptor: int) -> tuple[int, str]:
    size_bytes, digest = 0, hashlib.sha256()
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        for piece in pieces:
            size_bytes += file.write(piece)
            digest.update(piece)
    return size_bytes, digest.hexdigest()


def _is_kept(name: object) -> bool:
    return isinstance(name, str) and name.isidentifier() and not (name.startswith("__") and name.endswith("__"))


def _reasons(dropped: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "reason": reason} for name, reason in dropped.items()]
