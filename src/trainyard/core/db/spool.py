"""Where writes wait while the database is away: files that survive the death of every process.

A record is u32 length, u32 CRC-32, then msgpack `[[sql, parameters], …]`: one list of writes, all or nothing. Each
process appends to a file of its own, which it keeps locked while it lives; whoever gets the lock of another's file owns
what the dead left behind. Writes that come here have to be harmless when they run twice.
"""

import fcntl
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from trainyard.core import errors
from trainyard.core.db.statements import Write

_HEAD = struct.Struct("<II")
_MAX_RECORD_BYTES = 256 << 20
"""No length over this is believed; a stored answer is at most some megabytes."""

_ATTEMPTS = 3
"""Another process can take a new file for that of a dead one between its making and its locking."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[str, dict[str, object]]]).decode
_log = structlog.get_logger("spool")


class SpoolFile:
    """One file of records, locked by this process.

    Attributes:
        path: Where it lies.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._read_to = 0

    @classmethod
    def open(cls, path: Path, *, is_new: bool) -> "SpoolFile | None":
        """Open and lock; None when another process holds it or has just removed it."""
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if is_new else 0)
        try:
            descriptor = os.open(path, flags, 0o600)
        except FileNotFoundError:
            if is_new:
                raise
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return cls(path, descriptor)
        except (BlockingIOError, FileNotFoundError):
            pass
        os.close(descriptor)
        return None

    @property
    def is_read(self) -> bool:
        """Whether everything in it was replayed."""
        return self._read_to >= os.fstat(self._descriptor).st_size

    def append(self, lists: Sequence[Sequence[Write]], *, sync: bool) -> None:
        """Add records, all of them or none.

        Raises:
            OSError: There is no room, or the file cannot be written.
            errors.InvalidRequest: Code `unstorable_value`: a value has no place in a record.
        """
        data = b"".join(_record(writes) for writes in lists)
        size = os.fstat(self._descriptor).st_size
        try:
            written = 0
            while written < len(data):
                written += os.write(self._descriptor, memoryview(data)[written:])
            if sync:
                os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, size)
            raise

    def read(self, max_records: int) -> tuple[list[list[Write]], int]:
        """Read records that were not replayed yet; returns them and the position behind, for `replayed`."""
        found: list[list[Write]] = []
        position, size = self._read_to, os.fstat(self._descriptor).st_size
        while len(found) < max_records and position < size:
            writes, after = self._record_at(position, size)
            if writes is not None:
                found.append(writes)
            position = after
        return found, position

    def replayed(self, position: int) -> None:
        """Note that everything before a position is in the database; a file that is done is emptied."""
        self._read_to = position
        if self.is_read:
            os.ftruncate(self._descriptor, 0)
            self._read_to = 0

    def close(self) -> None:
        """Let go of the file, and remove it when nothing in it is waiting."""
        if self.is_read:
            self.path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _record_at(self, position: int, size: int) -> tuple[list[Write] | None, int]:
        """Read one record; what cannot be one is skipped to the end, since no later beginning can be known."""
        head = os.pread(self._descriptor, _HEAD.size, position)
        length, crc = _HEAD.unpack(head) if len(head) == _HEAD.size else (0, 0)
        after = position + _HEAD.size + length
        if not 0 < length <= _MAX_RECORD_BYTES or after > size:
            _log.warning("spool_torn", path=str(self.path), position=position, size=size)
            return None, size
        payload = os.pread(self._descriptor, length, position + _HEAD.size)
        try:
            if zlib.crc32(payload) == crc:
                return [Write(sql, parameters) for sql, parameters in _decode(payload)], after
        except msgspec.MsgspecError:
            pass  # of another version
        self._keep_damaged(position)
        return None, size

    def _keep_damaged(self, position: int) -> None:
        """Put aside what was written whole and is not whole any more, for people to look at."""
        kept = self.path.with_suffix(".damaged")
        _add(kept, os.pread(self._descriptor, os.fstat(self._descriptor).st_size - position, position))
        _log.error("spool_damaged", path=str(kept), position=position)


class Spool:
    """The file of this process and those of dead ones; for one thread.

    Args:
        directory: Of the data; made already.
        name: Beginning of the files' names.
        sync: Whether records have to survive the loss of power.
    """

    def __init__(self, directory: Path, name: str = "ledger", *, sync: bool = False) -> None:
        self._directory = directory
        self._name = name
        self._sync = sync
        self._mine: SpoolFile | None = None
        self._left: list[SpoolFile] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, in the files that this process holds."""
        return all(file.is_read for file in self._files())

    def append(self, lists: Sequence[Sequence[Write]]) -> None:
        """Keep lists until the database is back.

        Raises:
            OSError, errors.InvalidRequest: As `SpoolFile.append`.
        """
        if self._mine is None:
            self._mine = self._make()
        self._mine.append(lists, sync=self._sync)

    def adopt(self) -> int:
        """Take over the files of dead processes; returns how many there were."""
        held = {file.path for file in self._files()}
        adopted = [
            file
            for path in sorted(self._directory.glob(f"{self._name}-*.spool"))
            if path not in held and (file := SpoolFile.open(path, is_new=False))
        ]
        self._left += adopted
        return len(adopted)

    def next(self, max_records: int) -> tuple[SpoolFile, list[list[Write]], int] | None:
        """Find what to replay next: a file, its lists and the position for `SpoolFile.replayed`; None when done."""
        for file in self._files():
            if not file.is_read:
                return (file, *file.read(max_records))
        for file in self._left:
            file.close()
        self._left.clear()
        return None

    def refuse(self, writes: Sequence[Write]) -> None:
        """Put a list aside that the database will never take, for people to look at."""
        kept = self._directory / f"{self._name}.refused"
        _add(kept, _record(writes))
        _log.error("spool_refused", path=str(kept))

    def close(self) -> None:
        """Let go of all files; what still waits stays for the next start."""
        for file in self._files():
            file.close()
        self._mine = None
        self._left.clear()

    def _files(self) -> list[SpoolFile]:
        return [*self._left, self._mine] if self._mine else self._left

    def _make(self) -> SpoolFile:
        for _attempt in range(_ATTEMPTS):
            name = f"{self._name}-{os.getpid()}-{os.urandom(4).hex()}.spool"
            made = SpoolFile.open(self._directory / name, is_new=True)
            if made:
                return made
        raise OSError(f"no file in {self._directory} could be locked")


def _record(writes: Sequence[Write]) -> bytes:
    try:
        payload = _encode([(write.sql, dict(write.parameters)) for write in writes])
    except (TypeError, OverflowError, ValueError) as error:
        raise errors.InvalidRequest(f"A value cannot be stored: {error}", code="unstorable_value") from error
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def _add(path: Path, data: bytes) -> None:
    with open(path, "ab", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
