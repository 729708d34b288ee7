"""The rows of keys."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Double,
    Index,
    Row,
    String,
    Table,
    UniqueConstraint,
    func,
    select,
    text,
    update,
)

from trainyard.core.db import epochs
from trainyard.core.db.metadata import facts, metadata
from trainyard.core.keys.types import KeyRecord

EPOCH = "keys"

keys = Table(
    "core_keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("owner", String(128), nullable=False),
    Column("description", String(500), nullable=False),
    Column("prefix", String(11), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("scopes", String(255), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("last_used_at", Double),
    Column("replaced_by", String(40)),
    UniqueConstraint("digest"),
    Index(None, "tenant", "owner"),
)


def insert(connection: Connection, record: KeyRecord) -> None:
    """Add a key."""
    row = {name: getattr(record, name) for name in _PLAIN}
    connection.execute(keys.insert().values(**row, owner=record.user, scopes=",".join(sorted(record.scopes))))
    epochs.raise_epoch(connection, EPOCH)


def change(connection: Connection, key_id: str, **values: object) -> None:
    """Set columns of one key so that every process sees it."""
    connection.execute(update(keys).where(keys.c.id == key_id).values(**values))
    epochs.raise_epoch(connection, EPOCH)


def find(connection: Connection, *, key_id: str | None = None, digest: str | None = None) -> KeyRecord | None:
    """Find one key by its id or its digest, revoked ones too, and keep others from changing it until the end."""
    column, value = (keys.c.digest, digest) if digest is not None else (keys.c.id, key_id)
    row = connection.execute(select(keys).where(column == value).with_for_update()).one_or_none()
    return _record(row) if row else None


def live(connection: Connection) -> list[KeyRecord]:
    """List every key that is not revoked, oldest first; expired ones too."""
    rows = connection.execute(select(keys).where(keys.c.revoked_at.is_(None)).order_by(keys.c.created_at, keys.c.id))
    return [_record(row) for row in rows]


def count(connection: Connection) -> int:
    """Count the keys that were ever made."""
    return connection.execute(select(func.count()).select_from(keys)).scalar_one()


def touch(connection: Connection, used_at: Mapping[str, float]) -> None:
    """Write when keys were last used; no epoch, since nobody decides by it. A later time stays."""
    for key_id, moment in sorted(used_at.items()):
        is_newer = keys.c.last_used_at.is_(None) | (keys.c.last_used_at < moment)
        connection.execute(update(keys).where(keys.c.id == key_id, is_newer).values(last_used_at=moment))


def pepper_fingerprint(connection: Connection) -> str | None:
    """Read the fingerprint of the pepper under which the digests were made; None before the first key."""
    return connection.execute(select(facts.c.value).where(facts.c.name == _PEPPER)).scalar()


def keep_pepper_fingerprint(connection: Connection, fingerprint: str) -> None:
    """Keep the fingerprint of the pepper unless another process was faster."""
    connection.execute(_KEEP_PEPPER, {"name": _PEPPER, "value": fingerprint})


_PEPPER = "pepper_fingerprint"
_KEEP_PEPPER = text("INSERT INTO core_facts (name, value) VALUES (:name, :value) ON CONFLICT (name) DO NOTHING")
_PLAIN = (
    *("id", "tenant", "description", "prefix", "digest", "created_at"),
    *("expires_at", "revoked_at", "last_used_at", "replaced_by"),
)


def _record(row: Row[Any]) -> KeyRecord:
    fields = {name: getattr(row, name) for name in _PLAIN}
    return KeyRecord(**fields, user=row.owner, scopes=frozenset(row.scopes.split(",")))
