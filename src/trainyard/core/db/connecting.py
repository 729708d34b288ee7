"""How a connection to SQLite or Postgres is made, and what is set on each."""

import sqlite3
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, InvalidatePoolError, SQLAlchemyError
from sqlalchemy.pool import ConnectionPoolEntry

from trainyard.core import errors
from trainyard.core.db.patience import Patience

READ_ONLY = "trainyard_read_only"
"""Execution option of a connection whose transaction only reads."""

_BUSY_TIMEOUT_S = 10
_CONNECT_TIMEOUT_S = 5
_LOOK_S = 3.0
_IS_USED = "trainyard_used"
_EXAMPLES = "sqlite:///path/to/file.db or postgresql://user:password@host:5432/name"


def create(url: str, sync: str, patience: Patience) -> Engine:
    """Make the engine for a URL.

    Args:
        url: As of `Database`.
        sync: As of `Database`.
        patience: Ends the look at a kept connection of Postgres that does not answer.

    Raises:
        errors.ConfigError: The URL is no URL of SQLite (in a file) or Postgres, or psycopg is not installed.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return _create_sqlite(parsed, sync)
    if parsed.get_backend_name() == "postgresql":
        return _create_postgres(parsed, patience)
    raise errors.ConfigError(
        f"database.url names '{parsed.get_backend_name()}'; supported: {_EXAMPLES}", param="database.url"
    )


def reason(error: SQLAlchemyError) -> str:
    """Say in one line why the database failed, without the statement and its parameters."""
    cause = getattr(error, "orig", None) or error
    return " ".join(str(cause).split()) or type(cause).__name__


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except (ArgumentError, ValueError):  # a port that is no number, often the end of a password with an @
        # The URL may hold a password, so neither it nor the error, which repeats a part of it, is shown.
        raise errors.ConfigError(
            f"database.url is not a URL; write {_EXAMPLES}, with %40 for @ and %3A for : in a password",
            param="database.url",
        ) from None


def _create_sqlite(url: URL, sync: str) -> Engine:
    if not url.database or url.database == ":memory:":
        raise errors.ConfigError(
            "database.url names a SQLite database in memory, which processes and threads cannot share; "
            "write sqlite:///path/to/file.db",
            param="database.url",
        )
    engine = create_engine(url, connect_args={"timeout": _BUSY_TIMEOUT_S})

    @event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # pysqlite would begin transactions by itself, and too late
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {sync}")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        is_reading = connection.get_execution_options().get(READ_ONLY, False)
        connection.exec_driver_sql("BEGIN DEFERRED" if is_reading else "BEGIN IMMEDIATE")

    return engine


def _create_postgres(url: URL, patience: Patience) -> Engine:
    connect_args: dict[str, Any] = {"connect_timeout": _CONNECT_TIMEOUT_S, "application_name": "trainyard"}
    try:
        engine = create_engine(url.set(drivername="postgresql+psycopg"), connect_args=connect_args, pool_timeout=10)
    except ModuleNotFoundError as error:
        raise errors.ConfigError(
            "database.url names Postgres, whose driver is not installed; run: pip install 'trainyard[postgres]'",
            param="database.url",
        ) from error

    @event.listens_for(engine, "checkout")
    def look(connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:
        """Do what `pool_pre_ping` does, but not for longer than a server that answers needs."""
        if record.info.pop(_IS_USED, False):
            try:
                with patience.during(connection, _LOOK_S):
                    engine.dialect.do_ping(connection)
            except engine.dialect.loaded_dbapi.Error as error:
                raise InvalidatePoolError from error
        record.info[_IS_USED] = True

    return engine
