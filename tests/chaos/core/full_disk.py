"""Records on a disk of 1 MB until it is full, makes room, and says what was lost."""

import asyncio
import sys
from pathlib import Path

from sqlalchemy import text

from tests.contract.core.ledger.entries import entry
from trainyard.core import errors
from trainyard.core.db import Database
from trainyard.core.db.spool import Spool
from trainyard.core.db.writer import GroupWriter
from trainyard.core.ledger.service import Ledger


async def fill(disk: Path) -> None:
    url = f"sqlite:///{disk / 'trainyard.db'}"
    (disk / "room").write_bytes(b"\0" * 200_000)
    database = Database(url)
    database.migrate()
    writer = GroupWriter(url, spool=Spool(disk))
    ledger = Ledger(writer, database)
    known: list[str] = []
    refused = ""
    while not refused:
        one = entry(f"{len(known)}")
        try:
            await ledger.record(one)
            known.append(one.entry_id)
        except errors.Unavailable as error:
            refused = error.code
    charged = len(known)
    (disk / "room").unlink()
    after = ""
    while not after or ledger.spooled:
        try:
            await ledger.record(entry("after"))
            after = "recorded"
        except errors.Unavailable:
            pass
        await asyncio.sleep(0.05)
    with database.read() as connection:
        written = list(connection.execute(text("SELECT entry_id FROM core_usage")).scalars())
    lost, twice = set(known) - set(written), len(written) - len(set(written))
    assert len(written) == charged + 1  # the refused one was not charged
    await writer.aclose()
    database.close()
    sys.stdout.write(f"refused: {refused}; lost: {len(lost)}; twice: {twice}; after: {after}\n")


if __name__ == "__main__":
    asyncio.run(fill(Path(sys.argv[1])))
