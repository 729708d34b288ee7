"""The rows of tenants that have limits or a quota."""

from typing import Any

from sqlalchemy import Column, Connection, Double, Row, String, Table, delete, select

from trainyard.core.db import epochs
from trainyard.core.db.metadata import metadata
from trainyard.core.keys import bars
from trainyard.core.keys.store import EPOCH, columns
from trainyard.core.keys.types import TenantRecord

tenants = Table(
    "core_tenants",
    metadata,
    Column("name", String(128), primary_key=True),
    *columns.bars(),
    Column("updated_at", Double, nullable=False),
)


def put(connection: Connection, record: TenantRecord) -> None:
    """Write a tenant over what was there."""
    drop(connection, record.name)
    values = bars.columns(record.limits, record.quota)
    connection.execute(tenants.insert().values(name=record.name, updated_at=record.updated_at, **values))


def drop(connection: Connection, name: str) -> None:
    """Forget the limits and the quota of a tenant."""
    epochs.raise_epoch(connection, EPOCH)  # first: on Postgres its row lock lets one writer in at a time
    connection.execute(delete(tenants).where(tenants.c.name == name))


def find(connection: Connection, name: str) -> TenantRecord | None:
    """Find one tenant that has limits or a quota."""
    row = connection.execute(select(tenants).where(tenants.c.name == name)).one_or_none()
    return _record(row) if row else None


def every(connection: Connection) -> list[TenantRecord]:
    """List every tenant that has limits or a quota, by name."""
    return [_record(row) for row in connection.execute(select(tenants).order_by(tenants.c.name))]


def _record(row: Row[Any]) -> TenantRecord:
    values: tuple[Any, ...] = tuple(row)
    limits, quota = bars.of_values(values[1:-1])
    return TenantRecord(values[0], limits, quota, values[-1])
