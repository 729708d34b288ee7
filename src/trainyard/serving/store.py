"""The shared cache in the database: one row per answer, found by an index of keys in memory."""

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import BigInteger, Column, Connection, Double, Index, LargeBinary, String, Table, delete, select, text

from trainyard.core.clock import Clock
from trainyard.core.db import Database, metadata
from trainyard.serving.cache.base import Kept

MAX_ROWS: Final = 200_000
"""Rows whose keys are held in memory, about 170 bytes each; one more sends the oldest away."""

_PAGE: Final = 5_000
_STEP: Final = 500
_OVERLAP_S: Final = 2.0
"""Rows of other processes become visible this long after the moment that they carry, at most."""

cache = Table(
    "serving_cache",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Index(None, "expires_at"),
    Index(None, "created_at"),
)

_KEEP = text(
    "INSERT INTO serving_cache (key, tenant, answer, bytes, created_at, expires_at) "
    "VALUES (:key, :tenant, :answer, :bytes, :created_at, :expires_at) "
    "ON CONFLICT (key) DO UPDATE SET answer = excluded.answer, bytes = excluded.bytes, "
    "created_at = excluded.created_at, expires_at = excluded.expires_at"
)


class DatabaseCache:
    """Implements `SharedCache`; every process knows which keys are there, so that a miss asks nothing.

    What another process wrote is known after the next `tend`.

    Attributes:
        bytes_held: Of the answers that it knows of.
    """

    def __init__(
        self, database: Database, clock: Clock, *, ttl_s: float, max_bytes: int, max_rows: int = MAX_ROWS
    ) -> None:
        self._database = database
        self._clock = clock
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self._max_rows = max_rows
        self._sizes: dict[bytes, int] = {}  # oldest first
        self._read_to = 0.0
        self._is_complete = False
        self.bytes_held = 0

    def may_hold(self, key: bytes) -> bool:
        """Whether its key is known, or not all keys were read yet."""
        return not self._is_complete or key in self._sizes

    async def get(self, key: bytes) -> bytes | None:
        """Read one row."""
        found = await self._database.call(self._get, key.hex(), self._clock.now())
        if found is None:
            self._forget(key)
        return found

    async def put(self, answers: Sequence[Kept]) -> None:
        """Write rows and remove as many of the oldest as are too much, in one transaction."""
        fitting = [one for one in answers if len(one.answer) <= self._max_bytes]
        for one in fitting:
            self._learn(one.key, len(one.answer))
        surplus = self._surplus()
        rows = [self._row(one) for one in fitting]
        await self._database.call(self._put, rows, [key.hex() for key in surplus])

    async def tend(self) -> None:
        """Learn the keys that others wrote, and remove some rows that are expired or too many."""
        now = self._clock.now()
        while True:
            rows = await self._database.call(self._news, self._read_to, now)
            for key, size, created_at in rows:
                self._learn(bytes.fromhex(key), size)
                self._read_to = max(self._read_to, created_at)
            if len(rows) < _PAGE:
                break
        self._is_complete = True
        self._read_to = max(self._read_to, now) - _OVERLAP_S
        expired = await self._database.call(self._remove, [key.hex() for key in self._surplus()], now)
        for key in expired:
            self._forget(bytes.fromhex(key))

    async def aclose(self) -> None:
        """Nothing is held; the database belongs to others."""

    def _learn(self, key: bytes, size: int) -> None:
        self._forget(key)
        self._sizes[key] = size
        self.bytes_held += size

    def _forget(self, key: bytes) -> None:
        self.bytes_held -= self._sizes.pop(key, 0)

    def _surplus(self) -> list[bytes]:
        """Forget the oldest keys beyond the bounds, some at a time; their rows are to be removed."""
        gone: list[bytes] = []
        while (self.bytes_held > self._max_bytes or len(self._sizes) > self._max_rows) and len(gone) < _STEP:
            gone.append(next(iter(self._sizes)))
            self._forget(gone[-1])
        return gone

    def _row(self, one: Kept) -> Mapping[str, object]:
        return {
            "key": one.key.hex(),
            "tenant": one.tenant,
            "answer": one.answer,
            "bytes": len(one.answer),
            "created_at": one.at,
            "expires_at": one.at + self._ttl_s,
        }

    def _get(self, key: str, now: float) -> bytes | None:
        query = select(cache.c.answer).where(cache.c.key == key, cache.c.expires_at > now)
        with self._database.read() as connection:
            found = connection.execute(query).scalar_one_or_none()
        return None if found is None else bytes(found)

    def _put(self, rows: Sequence[Mapping[str, object]], surplus: Sequence[str]) -> None:
        with self._database.begin() as connection:
            if rows:
                connection.execute(_KEEP, sorted(rows, key=lambda row: str(row["key"])))  # one order: no deadlocks
            _delete(connection, surplus)

    def _news(self, since: float, now: float) -> list[tuple[str, int, float]]:
        query = (
            select(cache.c.key, cache.c.bytes, cache.c.created_at)
            .where(cache.c.created_at >= since, cache.c.expires_at > now)
            .order_by(cache.c.created_at)
            .limit(_PAGE)
        )
        with self._database.read() as connection:
            return [(row.key, row.bytes, row.created_at) for row in connection.execute(query)]

    def _remove(self, surplus: Sequence[str], now: float) -> Sequence[str]:
        query = select(cache.c.key).where(cache.c.expires_at <= now).order_by(cache.c.expires_at).limit(_STEP)
        with self._database.read() as connection:
            expired = list(connection.execute(query).scalars())
        if expired or surplus:
            with self._database.begin() as connection:
                _delete(connection, [*expired, *surplus])
        return expired


def _delete(connection: Connection, keys: Sequence[str]) -> None:
    if keys:
        connection.execute(delete(cache).where(cache.c.key.in_(sorted(keys))))
