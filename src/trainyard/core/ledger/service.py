"""Recording usage so that it outlives the process, and telling what a subject has spent."""

import asyncio
from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection

from trainyard.core.db import Database
from trainyard.core.db.writer import GroupWriter, Wake, Write
from trainyard.core.ledger.store import rows
from trainyard.core.ledger.types import Entry
from trainyard.core.limits.types import Amount


class Ledger:
    """Append-only usage.

    An entry that is acknowledged is in the database or, while that is away, in the spool of the writer, which writes it
    as soon as it is back. Both survive the death of the process.
    """

    def __init__(self, writer: GroupWriter, database: Database) -> None:
        """Keep the parts.

        Args:
            writer: Of the same database; with a spool, or entries are refused while the database is away.
            database: Migrated to revision 0004 or later.
        """
        self._writer = writer
        self._database = database
        self._spooled: dict[str, Entry] = {}
        writer.observe(self._on_spooled, self._spooled.clear)

    @property
    def spooled(self) -> int:
        """Entries of this process that may still wait for the database."""
        return len(self._spooled)

    async def record(self, entry: Entry, *also: Write) -> None:
        """Make an entry durable, together with other writes, all or nothing.

        Args:
            entry: A second one of the same id changes nothing.
            also: As with `GroupWriter.submit`, they must do no harm when they run late or twice.

        Raises:
            errors.Unavailable: Code `ledger_unavailable`: neither database nor spool took it; nothing is charged.
            errors.Conflict, errors.InvalidRequest: As `GroupWriter.write`; nothing is charged.
        """
        await self.submit(entry, also)

    def submit(self, entry: Entry, also: Sequence[Write] = ()) -> asyncio.Future[bool]:
        """Begin to record; the entry is on its way whatever becomes of the caller.

        Returns:
            Done when it is durable; raises as `record`.
        """
        return self._writer.submit((rows.insert(entry), *also), may_spool=True)

    def submit_then(self, entry: Entry, wake: Wake) -> None:
        """Begin to record, and have `wake` called, later, with what became of it; see `GroupWriter.submit_then`."""
        self._writer.submit_then((rows.insert(entry),), wake, may_spool=True)

    async def spent(self, subject: str, since: float, until: float) -> Amount:
        """Sum what was charged to a subject at or after `since` and before `until`, Unix seconds.

        It sees every entry that was recorded before the call, by this process also those in the spool.

        Raises:
            errors.Unavailable: Code `database_unavailable`.
            errors.InvalidRequest: `subject` is neither `key:<account>` nor `tenant:<name>`.
        """
        return await self._database.call(self._spent, subject, since, until, list(self._spooled.values()))

    # ------------------------------------------------------------------ inside

    def _spent(self, subject: str, since: float, until: float, spooled: Sequence[Entry]) -> Amount:
        with self._database.read() as connection:
            rows.hold_still(connection)  # so that an entry that is replayed at this moment counts once
            written = rows.spent(connection, subject, since, until)
            waiting = _of(connection, subject, [entry for entry in spooled if since <= entry.at < until])
            known = rows.existing(connection, [entry.entry_id for entry in waiting])
        left = rows.total(entry for entry in waiting if entry.entry_id not in known)
        return Amount(written.tokens + left.tokens, written.cost_micros + left.cost_micros)

    def _on_spooled(self, writes: Sequence[Write]) -> None:
        for write in writes:
            if write.sql is rows.INSERT:
                entry = msgspec.convert(write.parameters, Entry)
                self._spooled[entry.entry_id] = entry


def _of(connection: Connection, subject: str, entries: Sequence[Entry]) -> list[Entry]:
    """Choose the entries of a subject."""
    kind, name = rows.read_subject(subject)
    if not entries:
        return []
    if kind == "tenant":
        return [entry for entry in entries if entry.tenant == name]
    key_ids = rows.ids_of_account(connection, name)
    return [entry for entry in entries if entry.key_id in key_ids]
