"""Bringing a database from any earlier revision to the newest, inside the program."""

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, exc, text

from trainyard.core import errors
from trainyard.core.db import connecting

VERSION_TABLE = "core_revision"

_HERE = Path(__file__).parent
_POSTGRES_LOCK = 7_403_110_265
"""Arbitrary number of the advisory lock under which one process at a time migrates."""

_alembic_lock = threading.Lock()
"""Alembic keeps its context in module globals."""


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Run all missing revisions up to `revision` in one transaction.

    Raises:
        errors.SchemaTooNew: The database holds a revision that this version does not know.
        errors.StartupError: The database does not answer, is read-only or is no database.
    """
    config = _config()
    try:
        with _alembic_lock, engine.begin() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _POSTGRES_LOCK})
            _refuse_newer(connection, ScriptDirectory.from_config(config))
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
    except exc.DatabaseError as error:
        raise errors.StartupError(
            f"The {engine.dialect.name} database cannot be brought up to date: {connecting.reason(error)}",
            code="database_unusable",
        ) from error


def current(connection: Connection) -> str | None:
    """Read the revision that the database is at; None before the first migration."""
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def revisions() -> list[str]:
    """List the revisions that this version knows, oldest first."""
    return [script.revision for script in reversed(list(ScriptDirectory.from_config(_config()).walk_revisions()))]


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_HERE))
    config.set_main_option("version_locations", str(_HERE / "migrations"))
    config.set_main_option("path_separator", "newline")
    return config


def _refuse_newer(connection: Connection, scripts: ScriptDirectory) -> None:
    found = current(connection)
    known = [script.revision for script in scripts.walk_revisions()]
    if found is not None and found not in known:
        raise errors.SchemaTooNew(
            f"The database is at revision {found}, which this version does not know (newest here: {known[0]}); "
            "install the version that wrote it or restore a backup",
            data={"found": found, "newest_known": known[0]},
        )
