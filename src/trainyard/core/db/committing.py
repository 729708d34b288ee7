"""Connections of the group-commit writer: SQLite by its own module, Postgres by psycopg, without an ORM between."""

import itertools
import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from sqlalchemy import make_url

from trainyard.core import errors
from trainyard.core.db import journal, statements
from trainyard.core.db.statements import Write

_BUSY_TIMEOUT_S = 1.0
"""Shorter than that of other connections: what waits here are answers, and they have the spool beside."""

_ROWS_AT_ONCE = 32
"""Rows of one statement: 32 of usage have 512 parameters, of the 999 that every SQLite takes."""

_MOVING_TIMEOUT_MS = 50
"""How long others may be kept from writing so that the journal can begin anew."""

_MOVING_AGAIN_S = 1.0
"""When that is tried again, after somebody who reads was in its way."""

_CONNECT_TIMEOUT_S = 5
_STATEMENT_TIMEOUT_MS = 5_000


class Committer(Protocol):
    """One connection that writes.

    Every method raises `errors.Unavailable` (code `ledger_unavailable`) when the database is gone, locked or full.
    """

    def commit(self, lists: Sequence[Sequence[Write]]) -> None:
        """Run all lists in one transaction.

        Raises:
            errors.Conflict: Code `write_conflict`: a constraint forbids one of them; nothing was written.
            errors.InvalidRequest: Code `unstorable_value`: a value cannot be stored; nothing was written.
            errors.TrainyardError: A statement is wrong; nothing was written.
        """
        ...

    def probe(self) -> None:
        """Return when a transaction could begin."""
        ...

    def interrupt(self) -> None:
        """Make a `commit` that hangs in another thread fail."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


def connect(url: str, sync: str) -> Committer:
    """Open the connection for a URL that `Database` accepts.

    Raises:
        errors.Unavailable: The database is not there.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        return SQLiteCommitter(parsed.database or "", sync)
    return PostgresCommitter(parsed.set(drivername="postgresql").render_as_string(hide_password=False))


def connect_quick(url: str, sync: str) -> Committer | None:
    """Open a connection whose commits wait for nobody, not even for the disk; None where there is no such thing.

    Raises:
        errors.Unavailable: The database is not there.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or sync != "normal":
        return None
    return SQLiteCommitter(parsed.database or "", sync, may_wait=False)


def away(error: BaseException | None) -> errors.Unavailable:
    """Make the error of those who wait; the driver's words stay in the log."""
    made = errors.Unavailable(
        "Usage cannot be recorded right now, so nothing is done that would have to be",
        code="ledger_unavailable",
        retry_after_s=1,
    )
    made.__cause__ = error
    return made


class SQLiteCommitter:
    """A connection to the file, with the pragmas of `connecting`."""

    def __init__(self, path: str, sync: str, *, may_wait: bool = True) -> None:
        """Open the file.

        Args:
            path: Of the file.
            sync: As of `Database`.
            may_wait: Whether a commit waits for others who write, and at times moves the journal into the file; else it
                fails at once where it would have to wait, and leaves the journal to another connection.
        """
        self._path, self._journal = Path(path), Path(f"{path}-wal")
        self._may_wait = may_wait
        self._may_move_at_s = 0.0
        with _sqlite_errors():
            self._connection = sqlite3.connect(
                f"file:{quote(path)}?mode=rw",  # a file that is missing is not made: it would have no tables
                uri=True,
                timeout=_BUSY_TIMEOUT_S if may_wait else 0.0,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=256,
            )
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute(f"PRAGMA synchronous = {sync}")
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._connection.execute("PRAGMA wal_autocheckpoint = 0")  # see `_tidy`
            self._file = self._stat()

    def commit(self, lists: Sequence[Sequence[Write]]) -> None:
        """Run all lists in one transaction; see `Committer`."""
        connection = self._connection
        with _sqlite_errors():
            if self._may_wait:
                self._tidy()
            steps = [step for sql, rows in statements.runs(lists, "?") for step in _steps(sql, rows)]
            if len(steps) == 1:  # a transaction by itself
                connection.execute(*steps[0])
                return
            try:
                connection.execute("BEGIN IMMEDIATE")
                for sql, values in steps:
                    connection.execute(sql, values)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def probe(self) -> None:
        """Take the write lock and let go of it."""
        with _sqlite_errors():
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("ROLLBACK")

    def interrupt(self) -> None:
        """Abort the running statement; waiting for a lock ends by itself."""
        with suppress(sqlite3.ProgrammingError):  # it was closed at this moment
            self._connection.interrupt()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _stat(self) -> os.stat_result:
        try:
            return self._path.stat()
        except OSError as error:
            raise away(error) from error

    def _tidy(self) -> None:
        """See that the file is still the one that was opened, and that the journal does not grow for ever.

        SQLite would move the journal after a commit, and would do it in part when another process writes meanwhile, so
        that it never begins anew. And whoever begins it anew waits for the disk: that is the commit after this.
        """
        if not os.path.samestat(self._stat(), self._file):
            raise away(FileNotFoundError("another file has taken the place of the database"))
        if time.monotonic() >= self._may_move_at_s and journal.is_full(self._journal) and not self._has_moved():
            self._may_move_at_s = time.monotonic() + _MOVING_AGAIN_S

    def _has_moved(self) -> bool:
        """Move all of the journal: what has gathered while others write, the rest while none may.

        Its file is written anew from its beginning, which costs less than to cut it, unless it has become very long.
        """
        execute = self._connection.execute
        try:
            execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            execute(f"PRAGMA busy_timeout = {_MOVING_TIMEOUT_MS}")
            how = "TRUNCATE" if journal.is_too_long(self._journal) else "RESTART"
            is_busy, *_ = execute(f"PRAGMA wal_checkpoint({how})").fetchone()
        except sqlite3.OperationalError:  # no room in the file; whether there is some in the journal, the commit tells
            return False
        finally:
            execute(f"PRAGMA busy_timeout = {round(_BUSY_TIMEOUT_S * 1000)}")
        return not is_busy


def _steps(sql: str, rows: Sequence[tuple[object, ...]]) -> Iterator[tuple[str, Sequence[object]]]:
    """Make statements of one for each row, few where it adds rows.

    At each of them the writer's thread has to wait for the interpreter's lock, which the event loop holds.
    """
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        some = rows[start : start + _ROWS_AT_ONCE]
        wide = statements.widened(sql, len(some)) if len(some) > 1 else None
        if wide is None:
            yield from ((sql, row) for row in some)
        else:
            yield wide, list(itertools.chain.from_iterable(some))


_SQLITE_AWAY = frozenset(
    {
        *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR),
        *(sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT),
        *(sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PERM),
    }
)


@contextmanager
def _sqlite_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise _conflict(error) from error
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in _SQLITE_AWAY:
            raise away(error) from error
        if isinstance(error, sqlite3.DataError | sqlite3.InterfaceError):
            raise _unstorable(error) from error
        raise errors.TrainyardError(f"a statement of a hot write is wrong: {error}") from error
    except (KeyError, OverflowError, ValueError) as error:
        raise _unstorable(error) from error


class PostgresCommitter:
    """A connection whose transaction goes over the wire in one piece and comes back in one."""

    def __init__(self, url: str) -> None:
        import psycopg  # of an extra: present wherever Postgres is configured

        self._psycopg = psycopg
        with self._errors():
            self._connection: psycopg.Connection[Any] = psycopg.connect(
                url,
                autocommit=True,
                connect_timeout=_CONNECT_TIMEOUT_S,
                application_name="trainyard-writer",
                prepare_threshold=0,
                keepalives_idle=5,
                keepalives_interval=2,
                keepalives_count=2,
                options=f"-c statement_timeout={_STATEMENT_TIMEOUT_MS}",
            )

    def commit(self, lists: Sequence[Sequence[Write]]) -> None:
        """Run all lists in one transaction; see `Committer`."""
        stepped_back = (self._psycopg.errors.DeadlockDetected, self._psycopg.errors.SerializationFailure)
        with self._errors():
            for _attempt in range(2):  # and a last time below
                with suppress(*stepped_back):
                    self._commit(lists)
                    return
            self._commit(lists)

    def probe(self) -> None:
        """Ask for one row."""
        with self._errors():
            self._connection.execute("SELECT 1")

    def interrupt(self) -> None:
        """Cut the line, which also works when the server has stopped to answer."""
        closed_by_now = suppress(self._psycopg.OperationalError, OSError)
        with closed_by_now, socket.socket(fileno=os.dup(self._connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the line; a line that is broken counts as closed."""
        self._connection.close()

    def _commit(self, lists: Sequence[Sequence[Write]]) -> None:
        connection = self._connection
        with connection.pipeline(), connection.transaction(), connection.cursor() as cursor:
            for sql, rows in statements.runs(lists, "%s"):
                cursor.executemany(sql, rows)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        psycopg = self._psycopg
        try:
            yield
        except psycopg.IntegrityError as error:
            raise _conflict(error) from error
        except psycopg.DataError as error:
            raise _unstorable(error) from error
        except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction) as error:
            raise away(error) from error
        except psycopg.Error as error:
            raise errors.TrainyardError(f"a statement of a hot write is wrong: {error}") from error
        except (KeyError, OverflowError, ValueError) as error:
            raise _unstorable(error) from error


def _conflict(error: Exception) -> errors.Conflict:
    made = errors.Conflict("A constraint of the database forbids this write", code="write_conflict")
    made.__cause__ = error  # it names values
    return made


def _unstorable(error: Exception) -> errors.InvalidRequest:
    return errors.InvalidRequest(f"A value cannot be stored: {_line(error)}", code="unstorable_value")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
