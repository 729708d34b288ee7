"""The rows of keys."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Double,
    Index,
    Row,
    Select,
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
from trainyard.core.keys import bars
from trainyard.core.keys.store import EPOCH, columns
from trainyard.core.keys.types import KeyRecord

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
    Column("account", String(40)),
    *columns.bars(),
    UniqueConstraint("digest"),
    Index(None, "tenant", "owner"),
    Index(None, "account"),
)


def insert(connection: Connection, record: KeyRecord) -> None:
    """Add a key."""
    connection.execute(keys.insert().values(id=record.id, **_row(record)))
    epochs.raise_epoch(connection, EPOCH)


def write(connection: Connection, record: KeyRecord) -> None:
    """Write a key over what was there so that every process sees it; the time of last use stays."""
    values = {name: value for name, value in _row(record).items() if name != "last_used_at"}
    connection.execute(update(keys).where(keys.c.id == record.id).values(**values))
    epochs.raise_epoch(connection, EPOCH)


def lock(connection: Connection) -> None:
    """Let one writer of keys in at a time, from here to the end of the transaction, for rules over several keys."""
    epochs.raise_epoch(connection, EPOCH)


def find(connection: Connection, *, key_id: str | None = None, digest: str | None = None) -> KeyRecord | None:
    """Find one key by its id or its digest, revoked ones too."""
    column, value = (keys.c.digest, digest) if digest is not None else (keys.c.id, key_id)
    row = connection.execute(select(keys).where(column == value)).one_or_none()
    return _record(row) if row else None


def live(connection: Connection) -> list[KeyRecord]:
    """List every key that is not revoked, oldest first; expired ones too."""
    rows = connection.execute(select(keys).where(keys.c.revoked_at.is_(None)).order_by(keys.c.created_at, keys.c.id))
    return [_record(row) for row in rows]


def count(connection: Connection) -> int:
    """Count the keys that were ever made."""
    return connection.execute(select(func.count()).select_from(keys)).scalar_one()


Status = Literal["live", "active", "expired", "revoked", "all"]
"""Which keys a list has: `live` = not revoked, that is `active` and `expired` ones."""


@dataclass(frozen=True, slots=True)
class Which:
    """Which keys a list has; None = any.

    Attributes:
        tenant: Of this tenant.
        user: Of this owner.
        scope: That have this scope.
        status: See `Status`.
    """

    tenant: str | None = None
    user: str | None = None
    scope: str | None = None
    status: Status = "live"

    def fits(self, record: KeyRecord) -> bool:
        """Whether a list has a key of the settings, which works as long as it stands there."""
        return (
            self.tenant in (None, record.tenant)
            and self.user in (None, record.user)
            and (self.scope is None or self.scope in record.scopes)
            and self.status in ("live", "active", "all")
        )


def page(connection: Connection, which: Which, now: float, limit: int, offset: int) -> tuple[list[KeyRecord], int]:
    """List keys, oldest first, and count all that a list without `limit` would have."""
    found = select(keys).where(*_conditions(which, now))
    total = connection.execute(select(func.count()).select_from(found.subquery())).scalar_one()
    rows = connection.execute(found.order_by(keys.c.created_at, keys.c.id).limit(limit).offset(offset))
    return [_record(row) for row in rows], total


def count_by_tenant(connection: Connection) -> dict[str, int]:
    """Count the keys of each tenant that are not revoked; a tenant whose keys all are counts 0."""
    live_keys = func.count().filter(keys.c.revoked_at.is_(None))
    rows = connection.execute(select(keys.c.tenant, live_keys).group_by(keys.c.tenant))
    return {row[0]: row[1] for row in rows}


def count_lasting_admins(connection: Connection, tenant: str, now: float) -> int:
    """Count the keys with the scope `admin` of a tenant that work now and were not replaced."""
    conditions = _conditions(Which(tenant, scope="admin", status="active"), now)
    found = select(func.count()).select_from(keys).where(*conditions, keys.c.replaced_by.is_(None))
    return connection.execute(found).scalar_one()


def ids_of_account(account: str) -> Select[tuple[str]]:
    """Select the ids of all keys of a chain of rotations, for sums over the ledger.

    Args:
        account: Id of the first key of the chain.
    """
    return select(keys.c.id).where((keys.c.id == account) | (keys.c.account == account))


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
    *("tenant", "description", "prefix", "digest", "created_at", "expires_at"),
    *("revoked_at", "last_used_at", "replaced_by", "account"),
)


def _conditions(which: Which, now: float) -> list[ColumnElement[bool]]:
    is_live, has_ended = keys.c.revoked_at.is_(None), keys.c.expires_at <= now
    of_status: dict[Status, list[ColumnElement[bool]]] = {
        "live": [is_live],
        "active": [is_live, keys.c.expires_at.is_(None) | (keys.c.expires_at > now)],
        "expired": [is_live, has_ended],
        "revoked": [keys.c.revoked_at.is_not(None)],
        "all": [],
    }
    equal = [(keys.c.tenant, which.tenant), (keys.c.owner, which.user)]
    conditions = [*of_status[which.status], *(column == value for column, value in equal if value is not None)]
    if which.scope is not None:
        conditions.append(("," + keys.c.scopes + ",").contains(f",{which.scope},", autoescape=True))
    return conditions


def _row(record: KeyRecord) -> dict[str, object]:
    plain = {name: getattr(record, name) for name in _PLAIN}
    scopes = ",".join(sorted(record.scopes))
    return {**plain, "owner": record.user, "scopes": scopes, **bars.columns(record.limits, record.quota)}


def _record(row: Row[Any]) -> KeyRecord:
    """Read a row, whose columns are in the order of the table, which is that of the fields of a record."""
    values: tuple[Any, ...] = tuple(row)
    facts = (*values[:6], _read_scopes(values[6]), *values[7:13], *bars.of_values(values[13:]))
    return KeyRecord(*facts)


@functools.lru_cache(maxsize=1024)
def _read_scopes(text: str) -> frozenset[str]:
    return frozenset(text.split(","))
