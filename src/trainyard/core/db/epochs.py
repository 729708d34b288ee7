"""Version numbers by which a process learns that rows it keeps in memory were changed elsewhere."""

from sqlalchemy import Connection, select, text

from trainyard.core.db.metadata import epochs

_RAISE = text(
    "INSERT INTO core_epochs (name, version) VALUES (:name, 1) "
    "ON CONFLICT (name) DO UPDATE SET version = core_epochs.version + 1 RETURNING version"
)

READ = "SELECT version FROM core_epochs WHERE name = :name"
"""For `Database.first`; no row before the first change."""


def raise_epoch(connection: Connection, name: str) -> int:
    """Count one change of `name` in the transaction of the change; returns the new version.

    On Postgres the row stays locked to the end of the transaction, so writers of one set follow each other.
    """
    return int(connection.execute(_RAISE, {"name": name}).scalar_one())


def read_epoch(connection: Connection, name: str) -> int:
    """Read the version of `name`; 0 before the first change."""
    version = connection.execute(select(epochs.c.version).where(epochs.c.name == name)).scalar()
    return version or 0
