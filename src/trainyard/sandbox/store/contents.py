"""Which contents a tenant's files and states are: counted, so that bytes are paid for once and go with their last name.

A content is stored before its name is written down, and removed after its last name is gone. Between the look whether
it has a name and its removal stands a row in `sandbox_doomed`: whoever would name it meanwhile is told to wait.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from sqlalchemy import Column, ColumnElement, Connection, delete, select, text, update

from trainyard.core import errors
from trainyard.core.db import Database
from trainyard.sandbox.store.tables import blobs, doomed, tenants

_AT_ONCE = 400
"""Values of one statement; every SQLite takes 999."""

_ALL = ""
"""The row that whoever names contents shares, and whoever dooms them holds alone."""

_MAKE_TENANT = text("INSERT INTO sandbox_tenants (tenant, stored_bytes) VALUES (:tenant, 0) ON CONFLICT DO NOTHING")
_NAME = text(
    "INSERT INTO sandbox_blobs (tenant, sha256, size_bytes, names) VALUES (:tenant, :sha256, :size_bytes, :names) "
    "ON CONFLICT (tenant, sha256) DO UPDATE SET names = sandbox_blobs.names + excluded.names"
)
_DOOM = text("INSERT INTO sandbox_doomed (sha256, doomed_at) VALUES (:sha256, :now) ON CONFLICT DO NOTHING")


class Doomed(Exception):
    """A content is being removed at this moment; it can be stored again when it is gone.

    Attributes:
        contents: Their addresses.
    """

    def __init__(self, contents: Collection[str]) -> None:
        super().__init__(f"{len(contents)} contents are being removed")
        self.contents = contents


class Contents:
    """What is gained and lost by one transaction of a tenant."""

    def __init__(self, connection: Connection, tenant: str, max_bytes: int | None) -> None:
        """Hold the tenant's row, and keep contents from being doomed, to the end of the transaction.

        Args:
            connection: Of the transaction.
            tenant: Whose.
            max_bytes: What he may store; None where nothing is gained.
        """
        self._connection = connection
        self._tenant = tenant
        self._max_bytes = max_bytes
        self._names: Counter[str] = Counter()
        self._sizes: dict[str, int] = {}
        self._stored = lock(connection, tenant)
        connection.execute(select(tenants.c.tenant).where(tenants.c.tenant == _ALL).with_for_update(read=True))

    def gain(self, sha256: str, size_bytes: int) -> None:
        """Count a name."""
        self._names[sha256] += 1
        self._sizes[sha256] = size_bytes

    def lose(self, sha256: str) -> None:
        """Count one less."""
        self._names[sha256] -= 1

    def settle(self) -> list[str]:
        """Write the counts down; returns the contents that this tenant has no name for any more.

        Raises:
            Doomed: One of the gained contents is being removed.
            errors.QuotaExhausted: The tenant would store too much (code `storage_full`).
        """
        gained = {sha256: names for sha256, names in self._names.items() if names > 0}
        lost = {sha256: names for sha256, names in self._names.items() if names < 0}
        added = self._add(gained)
        freed, freed_bytes = self._take(lost)
        if added > freed_bytes:
            self._check(added - freed_bytes)
        if added != freed_bytes:
            change = update(tenants).where(tenants.c.tenant == self._tenant)
            self._connection.execute(change.values(stored_bytes=tenants.c.stored_bytes + added - freed_bytes))
        return freed

    def _add(self, gained: Mapping[str, int]) -> int:
        """Write new names; returns the bytes of contents that are new to the tenant."""
        if not gained:
            return 0
        condemned = _among(self._connection, doomed.c.sha256, gained)
        if condemned:
            raise Doomed(condemned)
        known = _among(self._connection, blobs.c.sha256, gained, blobs.c.tenant == self._tenant)
        rows = [
            {"tenant": self._tenant, "sha256": sha256, "size_bytes": self._sizes[sha256], "names": names}
            for sha256, names in sorted(gained.items())
        ]
        self._connection.execute(_NAME, rows)
        return sum(self._sizes[sha256] for sha256 in gained if sha256 not in known)

    def _take(self, lost: Mapping[str, int]) -> tuple[list[str], int]:
        for sha256, names in lost.items():
            change = update(blobs).where(blobs.c.tenant == self._tenant, blobs.c.sha256 == sha256)
            self._connection.execute(change.values(names=blobs.c.names + names))
        freed, freed_bytes = [], 0
        for some in _pages(lost):
            mine = (blobs.c.tenant == self._tenant, blobs.c.sha256.in_(some), blobs.c.names <= 0)
            for row in self._connection.execute(select(blobs.c.sha256, blobs.c.size_bytes).where(*mine)):
                freed.append(row.sha256)
                freed_bytes += row.size_bytes
            self._connection.execute(delete(blobs).where(*mine))
        return freed, freed_bytes

    def _check(self, more_bytes: int) -> None:
        if self._max_bytes is None or self._stored + more_bytes <= self._max_bytes:
            return
        raise errors.QuotaExhausted(
            f"Files and states of this tenant take {self._stored} of {self._max_bytes} bytes, and {more_bytes} more do "
            "not fit; delete files or sessions",
            code="storage_full",
            data={"stored_bytes": self._stored, "max_stored_bytes": self._max_bytes, "wanted_bytes": more_bytes},
        )


def lock(connection: Connection, tenant: str) -> int:
    """Hold a tenant's row to the end of the transaction; returns the bytes that he stores."""
    connection.execute(_MAKE_TENANT, {"tenant": tenant})
    asked = select(tenants.c.stored_bytes).where(tenants.c.tenant == tenant).with_for_update()
    return int(connection.execute(asked).scalar_one())


class Collector:
    """Removes what has no name; its methods block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def doom(self, contents: Collection[str], now: float) -> list[str]:
        """Choose those that nobody names, and keep them from being named until `forget`."""
        with self._database.begin() as connection:
            connection.execute(select(tenants.c.tenant).where(tenants.c.tenant == _ALL).with_for_update())
            named = _among(connection, blobs.c.sha256, contents)
            chosen = sorted(set(contents) - named)
            if chosen:
                connection.execute(_DOOM, [{"sha256": sha256, "now": now} for sha256 in chosen])
        return chosen

    def forget(self, contents: Collection[str]) -> None:
        """Let contents that are gone be stored and named again."""
        with self._database.begin() as connection:
            for some in _pages(contents):
                connection.execute(delete(doomed).where(doomed.c.sha256.in_(some)))

    def condemned(self, before: float) -> list[str]:
        """List what was doomed before a moment: whoever did it has died."""
        with self._database.read() as connection:
            return list(connection.execute(select(doomed.c.sha256).where(doomed.c.doomed_at < before)).scalars())

    def stored_bytes(self, tenant: str) -> int:
        """Tell what a tenant stores."""
        with self._database.read() as connection:
            asked = select(tenants.c.stored_bytes).where(tenants.c.tenant == tenant)
            return connection.execute(asked).scalar_one_or_none() or 0


def _pages(values: Collection[str]) -> Iterator[list[str]]:
    every = sorted(values)
    return (every[start : start + _AT_ONCE] for start in range(0, len(every), _AT_ONCE))


def _among(
    connection: Connection, column: Column[str], contents: Collection[str], *conditions: ColumnElement[bool]
) -> set[str]:
    found: set[str] = set()
    for some in _pages(contents):
        found.update(connection.execute(select(column).where(column.in_(some), *conditions)).scalars())
    return found
