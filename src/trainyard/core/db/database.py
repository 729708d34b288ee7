"""Opening, sharing and closing the one database."""

import asyncio
import contextvars
import functools
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, exc, text

from trainyard.core import errors
from trainyard.core.db import connecting, migrate

Params = ParamSpec("Params")
Result = TypeVar("Result")

Sync = Literal["normal", "full"]

_log = logging.getLogger(__name__)

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
        self.engine: Engine = connecting.create(url, sync)
        self.kind: str = self.engine.dialect.name
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="database")

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """Open one read-write transaction: committed at the end, rolled back by any exception; retries nothing.

        On SQLite it takes the write lock at once, so that a read followed by a write never fails half-way.

        Raises:
            errors.Unavailable: Code `database_unavailable`; the database is away, full or locked for over 10 s.
            errors.InvalidRequest: Code `unstorable_value`; Postgres refuses a value, such as text with a NUL.
        """
        with self._errors_mapped(), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open one transaction that only reads; on SQLite it never waits for a writer.

        Raises:
            errors.Unavailable: As `begin`.
        """
        with self._errors_mapped(), self.engine.connect() as plain:
            connection = plain.execution_options(**{connecting.READ_ONLY: True})
            with connection.begin():
                yield connection

    async def call(self, function: Callable[Params, Result], /, *args: Params.args, **kwargs: Params.kwargs) -> Result:
        """Run a blocking function in the database threads: the one place for blocking work of stores.

        Cancelling the caller does not stop the function; its transaction ends as if nobody had left.
        """
        context = contextvars.copy_context()
        work = functools.partial(context.run, functools.partial(function, *args, **kwargs))
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

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
        self.engine.dispose()

    def _ping(self) -> None:
        with self.read() as connection:
            connection.execute(text("SELECT 1"))

    @contextmanager
    def _errors_mapped(self) -> Iterator[None]:
        try:
            yield
        except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
            # Drivers name hosts, ports, users and files; strangers read this message at /readyz.
            _log.warning("the %s database does not answer: %s", self.kind, connecting.reason(error))
            message = f"The {self.kind} database does not answer; the log says why"
            raise errors.Unavailable(message, code="database_unavailable", retry_after_s=1) from error
        except exc.DataError as error:
            raise errors.InvalidRequest(
                f"A value cannot be stored: {connecting.reason(error)}", code="unstorable_value"
            ) from error
