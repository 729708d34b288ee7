"""Files of sessions: names of contents."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import BindParameter, Connection, RowMapping, bindparam, delete, insert, select, update

from trainyard.core.db import Database
from trainyard.sandbox.store import contents, sessions
from trainyard.sandbox.store.ids import new_id
from trainyard.sandbox.store.records import FileRecord, Hold, NewFile, Role
from trainyard.sandbox.store.tables import files

_AT_ONCE = 400
_COLUMNS = tuple(column.name for column in files.columns if column.name != "path_hash")
_CHANGED = ("sha256", "size_bytes", "role", "is_read_only", "content_type", "modified_at", "origin")


@dataclass(frozen=True, slots=True)
class Saved:
    """What one change of a session's files came to.

    Attributes:
        files: As they are now, in the order in which they were given.
        deleted: As they were.
        freed: Contents that the tenant has no name for any more.
    """

    files: list[FileRecord] = field(default_factory=list)
    deleted: list[FileRecord] = field(default_factory=list)
    freed: list[str] = field(default_factory=list)


class FileStore:
    """The rows of files; its methods block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of_session(self, session_id: str) -> list[FileRecord]:
        """List the files of a session by their time, the pending ones too."""
        asked = select(files).where(files.c.session_id == session_id).order_by(files.c.created_at, files.c.path)
        with self._database.read() as connection:
            return [_record(row) for row in connection.execute(asked).mappings()]

    def find(self, session_id: str, file_id: str) -> FileRecord | None:
        """Find a file; None when the session has none of that id."""
        asked = select(files).where(files.c.id == file_id, files.c.session_id == session_id)
        with self._database.read() as connection:
            row = connection.execute(asked).mappings().first()
        return None if row is None else _record(row)

    def change(
        self,
        session_id: str,
        save: Sequence[NewFile],
        delete_paths: Collection[str],
        now: float,
        *,
        max_bytes: int,
        hold: Hold | None = None,
    ) -> Saved:
        """Add, change and remove files of a session, all or nothing; a file of the same path keeps its id.

        Args:
            session_id: Of a session that is there.
            save: With paths that differ.
            delete_paths: Those that are not there are left out.
            now: Unix seconds.
            max_bytes: What the tenant may store in all.
            hold: Has to be held still; None = anybody may.

        Raises:
            errors.NotFound: Code `session_not_found`.
            errors.Conflict: Code `session_taken`.
            errors.QuotaExhausted: Code `storage_full`.
            Doomed: A content is being removed at this moment.
        """
        with self._database.begin() as connection:
            session = sessions.checked(connection, session_id, hold)
            counts = contents.Contents(connection, session.tenant, max_bytes)
            known = _by_path(connection, session_id, [*(file.path for file in save), *delete_paths])
            saved = [_renewed(known.get(file.path), file, session_id, session.tenant, now) for file in save]
            deleted = [known[path] for path in delete_paths if path in known]
            for record in [*(known[file.path] for file in save if file.path in known), *deleted]:
                counts.lose(record.sha256)
            for record in saved:
                counts.gain(record.sha256, record.size_bytes)
            _write(connection, [record for record in saved if record.path not in known], known.keys(), saved)
            for some in _pages([record.id for record in deleted]):
                connection.execute(delete(files).where(files.c.id.in_(some)))
            return Saved(saved, deleted, counts.settle())


def _write(
    connection: Connection, added: Sequence[FileRecord], known: Collection[str], saved: Sequence[FileRecord]
) -> None:
    if added:
        connection.execute(insert(files), [{**asdict(file), "path_hash": _hash(file.path)} for file in added])
    changed = [file for file in saved if file.path in known]
    if changed:
        values: dict[str, BindParameter[Any]] = {name: bindparam(f"new_{name}") for name in _CHANGED}
        rows = [{"file_id": file.id, **{f"new_{name}": getattr(file, name) for name in _CHANGED}} for file in changed]
        connection.execute(update(files).where(files.c.id == bindparam("file_id")).values(**values), rows)


def _renewed(known: FileRecord | None, file: NewFile, session_id: str, tenant: str, now: float) -> FileRecord:
    return FileRecord(
        **{name: getattr(file, name) for name in NewFile.__slots__},
        id=known.id if known else new_id(),
        session_id=session_id,
        tenant=tenant,
        created_at=known.created_at if known else now,
        modified_at=now,
    )


def _by_path(connection: Connection, session_id: str, paths: Collection[str]) -> dict[str, FileRecord]:
    found: dict[str, FileRecord] = {}
    for some in _pages([_hash(path) for path in paths]):
        asked = select(files).where(files.c.session_id == session_id, files.c.path_hash.in_(some))
        found.update((row["path"], _record(row)) for row in connection.execute(asked).mappings())
    return found


def _pages(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE))


def _hash(path: str) -> str:
    return hashlib.sha256(path.encode()).hexdigest()


def _record(row: RowMapping) -> FileRecord:
    return FileRecord(**{**{name: row[name] for name in _COLUMNS}, "role": Role(row["role"])})
