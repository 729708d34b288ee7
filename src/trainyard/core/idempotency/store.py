"""The rows of keys: claimed by one holder at a time, for as long as its lease lasts."""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    Column,
    ColumnElement,
    Double,
    Index,
    LargeBinary,
    String,
    Table,
    and_,
    delete,
    or_,
    select,
    text,
    tuple_,
    update,
)

from trainyard.core.db import Database, metadata
from trainyard.core.db.writer import Write
from trainyard.core.idempotency.types import Scope

RUNNING: Final = "running"
DONE: Final = "done"
_STEP: Final = 500

rows = Table(
    "core_idempotency",
    metadata,
    Column("tenant", String(128), primary_key=True),
    Column("route", String(128), primary_key=True),
    Column("key", String(255), primary_key=True),
    Column("body_hash", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("holder", String(64), nullable=False),
    Column("lease_until", Double, nullable=False),
    Column("answer", LargeBinary),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index(None, "expires_at"),
)

_COLUMNS = "tenant, route, key, body_hash, state, holder, lease_until, answer, created_at, expires_at"
_VALUES = ", ".join(f":{name}" for name in _COLUMNS.split(", "))
_TAKEN = "core_idempotency"

_CLAIM = text(
    f"INSERT INTO core_idempotency ({_COLUMNS}) VALUES ({_VALUES}) "  # noqa: S608 - names of our own
    "ON CONFLICT (tenant, route, key) DO UPDATE SET body_hash = excluded.body_hash, state = excluded.state, "
    "holder = excluded.holder, lease_until = excluded.lease_until, answer = NULL, created_at = excluded.created_at, "
    f"expires_at = excluded.expires_at WHERE ({_TAKEN}.state <> 'running' OR {_TAKEN}.lease_until <= :created_at) AND "
    f"({_TAKEN}.expires_at <= :created_at OR ({_TAKEN}.state = 'running' "
    f"AND {_TAKEN}.body_hash = excluded.body_hash))"
)
_FINISH = (
    f"INSERT INTO core_idempotency ({_COLUMNS}) VALUES ({_VALUES}) "  # noqa: S608 - names of our own
    "ON CONFLICT (tenant, route, key) DO UPDATE SET state = excluded.state, answer = excluded.answer, "
    f"expires_at = excluded.expires_at WHERE {_TAKEN}.holder = excluded.holder"
)


@dataclass(frozen=True, slots=True)
class Row:
    """What stands under a key.

    Attributes:
        body_hash: SHA-256 of what is asked, hexadecimal.
        holder: Who works on it, or did.
        lease_until: Unix seconds; a holder that has not renewed it by then is taken for dead.
        answer: Of a request that is done.
    """

    scope: Scope
    body_hash: str
    holder: str
    lease_until: float
    created_at: float
    expires_at: float
    answer: bytes | None = None


class IdempotencyStore:
    """Reads and writes rows; its methods block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def claim(self, wanted: Row) -> Row:
        """Take a key that is free, expired, or held by a dead one for the same body; returns what stands there now.

        A key whose request is worked on does not expire.
        """
        scope = wanted.scope
        with self._database.begin() as connection:
            connection.execute(_CLAIM, _parameters(wanted, RUNNING))
            query = select(rows).where(_is(scope))
            found = connection.execute(query).one()
        return Row(
            scope,
            found.body_hash,
            found.holder,
            found.lease_until,
            found.created_at,
            found.expires_at,
            None if found.answer is None else bytes(found.answer),
        )

    def renew(self, scope: Scope, holder: str, lease_until: float) -> bool:
        """Hold on to a key; false when it was taken over."""
        change = update(rows).where(_is(scope), rows.c.holder == holder).values(lease_until=lease_until)
        with self._database.begin() as connection:
            return connection.execute(change).rowcount == 1

    def release(self, scope: Scope, holder: str) -> None:
        """Let go of a key whose request was not answered, so that it can be sent again at once."""
        gone = delete(rows).where(_is(scope), rows.c.holder == holder, rows.c.state == RUNNING)
        with self._database.begin() as connection:
            connection.execute(gone)

    def sweep(self, now: float) -> int:
        """Remove some rows that are expired; returns how many."""
        name = tuple_(rows.c.tenant, rows.c.route, rows.c.key)
        is_over = and_(rows.c.expires_at <= now, or_(rows.c.state != RUNNING, rows.c.lease_until <= now))
        query = select(rows.c.tenant, rows.c.route, rows.c.key).where(is_over).limit(_STEP)
        with self._database.begin() as connection:
            expired = [tuple(row) for row in connection.execute(query)]
            if expired:
                connection.execute(delete(rows).where(name.in_(expired), is_over))
        return len(expired)


def finish(done: Row) -> Write:
    """Write the answer down, unless somebody else has taken the key; harmless when it runs twice."""
    return Write(_FINISH, _parameters(done, DONE))


def _is(scope: Scope) -> ColumnElement[bool]:
    return (rows.c.tenant == scope.tenant) & (rows.c.route == scope.route) & (rows.c.key == scope.stored_key)


def _parameters(row: Row, state: str) -> dict[str, object]:
    return {
        "tenant": row.scope.tenant,
        "route": row.scope.route,
        "key": row.scope.stored_key,
        "body_hash": row.body_hash,
        "state": state,
        "holder": row.holder,
        "lease_until": row.lease_until,
        "answer": row.answer,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
    }
