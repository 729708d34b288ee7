"""What work beside tokens cost: a row beside each entry that has such work; the others pay nothing for it."""

from sqlalchemy import BigInteger, Column, Double, String, Table

from trainyard.core.db.metadata import metadata
from trainyard.core.db.writer import Write
from trainyard.core.ledger.types import Work

work = Table(
    "core_work",
    metadata,
    Column("entry_id", String(64), primary_key=True),
    Column("cpu_s", Double, nullable=False),
    Column("bytes_in", BigInteger, nullable=False),
    Column("bytes_out", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

_INSERT = (
    "INSERT INTO core_work (entry_id, cpu_s, bytes_in, bytes_out) VALUES (:entry_id, :cpu_s, :bytes_in, :bytes_out) "
    "ON CONFLICT (entry_id) DO NOTHING"
)


def insert(entry_id: str, done: Work) -> Write:
    """Make the write that adds the work of an entry; a second one adds nothing."""
    values = {"entry_id": entry_id, "cpu_s": done.cpu_s, "bytes_in": done.bytes_in, "bytes_out": done.bytes_out}
    return Write(_INSERT, values)
