"""Opening, sharing and closing the one database."""

import asyncio
import contextvars
import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Literal, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, exc, text

from trainyard.core import errors
from trainyard.core.db import connecting, migrate
from trainyard.core.db.glance import Glance, NotAtOnce
from trainyard.core.db.patience import Patience

Params = ParamSpec("Params")
Result = TypeVar("Result")

Sync = Literal["normal", "full"]

_log = logging.getLogger(__name__)

PATIENCE_S = 10.0
"""Longest transaction of a request; reports have more."""

_SLOW_S = 1.0
_AWAY_S = 1.0
"""After a failure that took `_SLOW_S`, calls fail at once for this long: four threads would else work off a queue of
time-outs."""

_THREADS = 4
"""SQLite has one writer at a time and Postgres work is short, so more threads would only wait."""


class Database:
    """The connections, the schema and the threads of one database.

    Attributes:
        engine: SQLAlchemy's engine, for tests and migrations; stores use `begin` and `read`.
        kind: `sqlite` or `postgresql`.
    """

    def __init__(self, url: str, *, sync: Sync = "normal") -> None:
        """Prepare; nothing is opened before the first use.

        Args:
            url: `sqlite:///path/to/file` or `postgresql://user:password@host:port/name`.
            sync: SQLite only. `normal` survives the death of every process, `full` also the loss of power.

        Raises:
            errors.ConfigError: The URL names another kind of database or cannot be read.
        """
        self._patience = Patience()
        self._away_until_s = 0.0
        self.engine: Engine = connecting.create(url, sync, self._patience)
        self.kind: str = self.engine.dialect.name
        self._glance = Glance(self.engine.url) if self.kind == "sqlite" else None
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="database")

    @contextmanager
    def begin(self, *, patience_s: float = PATIENCE_S) -> Iterator[Connection]:
        """Open one read-write transaction: committed at the end, rolled back by any exception; retries nothing.

        On SQLite it takes the write lock at once, so that a read followed by a write never fails half-way.

        Args:
            patience_s: Longest time for the block; a line to Postgres that is open for longer is cut.

        Raises:
            errors.Unavailable: Code `database_unavailable`; the database is away, full, locked for over 10 s, or took
                too long.
            errors.InvalidRequest: Code `unstorable_value`; Postgres refuses a value, such as text with a NUL.
        """
        with (
            self._errors_mapped(),
            self.engine.connect() as connection,
            self._bounded(connection, patience_s),
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def read(self, *, patience_s: float = PATIENCE_S) -> Iterator[Connection]:
        """Open one transaction that only reads; on SQLite it never waits for a writer.

        Args:
            patience_s: As of `begin`.

        Raises:
            errors.Unavailable: As `begin`.
        """
        with self._errors_mapped(), self.engine.connect() as plain:
            connection = plain.execution_options(**{connecting.READ_ONLY: True})
            with self._bounded(connection, patience_s), connection.begin():
                yield connection

    async def call(self, function: Callable[Params, Result], /, *args: Params.args, **kwargs: Params.kwargs) -> Result:
        """Run a blocking function in the database threads: the one place for blocking work of stores.

        Cancelling the caller does not stop the function; its transaction ends as if nobody had left.
        """
        context = contextvars.copy_context()
        work = functools.partial(context.run, functools.partial(function, *args, **kwargs))
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def first(self, sql: str, **values: object) -> Mapping[str, Any] | None:
        """Read one row that is found by an index; of SQLite at once, in the event loop.

        Args:
            sql: With named parameters (`:name`), in words that SQLite and Postgres both understand.
            values: Of the parameters.

        Returns:
            The first row, as it is committed, by column; a boolean of SQLite is a number. None where there is none.

        Raises:
            errors.Unavailable: As `begin`.
        """
        if self._glance is not None:
            with suppress(NotAtOnce):
                return self._glance.first(sql, values)
        return await self.call(self._first, sql, values)

    async def ping(self) -> None:
        """Ask the database for one row.

        Raises:
            errors.Unavailable: It did not answer.
        """
        await self.call(self._ping)

    def migrate(self, revision: str = "head") -> None:
        """Bring the schema to a revision in one transaction; other processes that start wait for it.

        Raises:
            errors.SchemaTooNew: The database holds a revision that this version does not know.
            errors.StartupError: The file is not a database or cannot be written.
        """
        migrate.upgrade(self.engine, revision)

    def revision(self) -> str | None:
        """Tell the revision of the schema; None for an empty database."""
        with self.read() as connection:
            return migrate.current(connection)

    def close(self) -> None:
        """Wait for running calls and close every connection."""
        self._threads.shutdown(wait=True)
        if self._glance is not None:
            self._glance.close()
        self.engine.dispose()
        self._patience.close()

    def _first(self, sql: str, values: Mapping[str, object]) -> Mapping[str, Any] | None:
        with self.read() as connection:
            found = connection.execute(text(sql), values).mappings().first()
        return None if found is None else dict(found)

    def _ping(self) -> None:
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    @contextmanager
    def _bounded(self, connection: Connection, patience_s: float) -> Iterator[None]:
        line = connection.connection.driver_connection
        with self._patience.during(line, patience_s) if self.kind == "postgresql" and line else nullcontext():
            yield

    @contextmanager
    def _errors_mapped(self) -> Iterator[None]:
        began_s = time.monotonic()
        if began_s < self._away_until_s:
            raise self._away()
        try:
            yield
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
            # Drivers name hosts, ports, users and files; strangers read this message at /readyz.
            _log.warning("the %s database does not answer: %s", self.kind, connecting.reason(error))
            self._note(error, time.monotonic() - began_s)
            raise self._away() from error
        except exc.DataError as error:
            raise errors.InvalidRequest(
                f"A value cannot be stored: {connecting.reason(error)}", code="unstorable_value"
            ) from error

    def _note(self, error: exc.SQLAlchemyError, took_s: float) -> None:
        """Spare those who wait behind the same time-out, when it was the line that failed and not the statement."""
        is_line = self.kind == "postgresql" and getattr(getattr(error, "orig", None), "sqlstate", None) is None
        if is_line and took_s >= _SLOW_S:
            self._away_until_s = time.monotonic() + _AWAY_S

    def _away(self) -> errors.Unavailable:
        message = f"The {self.kind} database does not answer; the log says why"
        return errors.Unavailable(message, code="database_unavailable", retry_after_s=1)
