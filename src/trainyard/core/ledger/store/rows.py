"""The rows of usage: one statement that adds them, and sums for quotas."""

import functools
from collections.abc import Iterable, Sequence

from msgspec import structs
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    CompoundSelect,
    Connection,
    Double,
    Index,
    String,
    Table,
    func,
    literal,
    select,
    text,
    union,
)

from trainyard.core import errors
from trainyard.core.db.metadata import metadata
from trainyard.core.db.writer import Write
from trainyard.core.keys.store import keys
from trainyard.core.ledger.types import Entry
from trainyard.core.limits.types import Amount

usage = Table(
    "core_usage",
    metadata,
    Column("entry_id", String(64), primary_key=True),
    Column("at", Double, nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("owner", String(128), nullable=False),
    Column("key_id", String(40), nullable=False),
    Column("request_id", String(64), nullable=False),
    Column("route", String(128), nullable=False),
    Column("model", String(255), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("cached", Boolean, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("charged_tokens", BigInteger, nullable=False),
    Column("cost_micros", BigInteger, nullable=False),
    Column("seconds", Double, nullable=False),
    Index(None, "tenant", "at"),
    Index(None, "key_id", "at"),
)

_FIELDS = tuple(field.name for field in structs.fields(Entry))
_COLUMNS = ", ".join("owner" if name == "user" else name for name in _FIELDS)

INSERT = (
    f"INSERT INTO core_usage ({_COLUMNS}) VALUES ({', '.join(':' + name for name in _FIELDS)}) "  # noqa: S608 - names
    "ON CONFLICT (entry_id) DO NOTHING"
)

_IDS_AT_ONCE = 500


def entry_id(at: float, unique: str) -> str:
    """Make the id of an entry: ids sort by time to the millisecond, so that the primary key finds stretches of time.

    Args:
        at: As in the entry, Unix seconds.
        unique: Differs between any two entries of one millisecond, in any process.
    """
    return _of_millisecond(int(at * 1000)) + unique


@functools.lru_cache(maxsize=16)
def _of_millisecond(number: int) -> str:
    """Write what all ids of one millisecond begin with."""
    return f"use_{number:011x}"


def insert(entry: Entry) -> Write:
    """Make the write that adds an entry; a second one of the same id adds nothing."""
    return Write(INSERT, structs.asdict(entry))


def hold_still(connection: Connection) -> None:
    """Make all that this transaction reads one snapshot; call it first. On SQLite it is one anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))


def spent(connection: Connection, subject: str, since: float, until: float) -> Amount:
    """Sum what was charged to a subject at or after `since` and before `until`, Unix seconds."""
    sums = select(func.sum(usage.c.charged_tokens), func.sum(usage.c.cost_micros)).where(
        is_of(subject), usage.c.at >= since, usage.c.at < until
    )
    tokens, cost_micros = connection.execute(sums).one()
    return Amount(int(tokens or 0), int(cost_micros or 0))


def is_of(subject: str) -> ColumnElement[bool]:
    """Make the condition that a row belongs to `key:<account>`, all keys of a chain of rotations, or `tenant:<name>`.

    Raises:
        errors.InvalidRequest: It is another kind of subject.
    """
    kind, name = read_subject(subject)
    return usage.c.tenant == name if kind == "tenant" else usage.c.key_id.in_(_keys_of(name))


def ids_of_account(connection: Connection, account: str) -> set[str]:
    """Find the keys of a chain of rotations."""
    return {str(key_id) for key_id in connection.execute(_keys_of(account)).scalars()}


def _keys_of(account: str) -> CompoundSelect[tuple[str]]:
    """Select the account itself, known or not, and the keys that rotations put in its place."""
    return union(select(literal(account)), keys.ids_of_account(account))


def read_subject(subject: str) -> tuple[str, str]:
    """Split the name of a subject into kind and name.

    Raises:
        errors.InvalidRequest: It is neither `key:<account>` nor `tenant:<name>`.
    """
    kind, _, name = subject.partition(":")
    if kind not in ("key", "tenant") or not name:
        raise errors.InvalidRequest(f"'{subject}' has no usage; write key:<id> or tenant:<name>", param="subject")
    return kind, name


def existing(connection: Connection, entry_ids: Sequence[str]) -> set[str]:
    """Find which of some entries are written."""
    found: set[str] = set()
    for start in range(0, len(entry_ids), _IDS_AT_ONCE):
        some = entry_ids[start : start + _IDS_AT_ONCE]
        found.update(connection.execute(select(usage.c.entry_id).where(usage.c.entry_id.in_(some))).scalars())
    return found


def total(entries: Iterable[Entry]) -> Amount:
    """Sum what was charged by entries that are not rows yet."""
    tokens = cost_micros = 0
    for entry in entries:
        tokens += entry.charged_tokens
        cost_micros += entry.cost_micros
    return Amount(tokens, cost_micros)
