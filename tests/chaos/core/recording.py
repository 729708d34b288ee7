"""A process that records usage as fast as it can and says which entries were acknowledged, to be killed."""

import asyncio
import os
import sys
from pathlib import Path

from tests.contract.core.ledger.entries import entry
from trainyard.core.db import Database
from trainyard.core.db.spool import Spool
from trainyard.core.db.writer import GroupWriter
from trainyard.core.ledger.service import Ledger
from trainyard.core.settings import LogSettings
from trainyard.core.telemetry import configure_logging

_CALLERS = 16


async def record(url: str, directory: str) -> None:
    database = Database(url)
    writer = GroupWriter(url, spool=Spool(Path(directory)))
    ledger = Ledger(writer, database)
    await writer.start()

    async def caller(name: int) -> None:
        number = 0
        while True:
            one = entry(f"{os.getpid()}-{name}-{number}")
            await ledger.record(one)
            os.write(1, f"{one.entry_id}\n".encode())
            number += 1

    await asyncio.gather(*(caller(name) for name in range(_CALLERS)))


if __name__ == "__main__":
    configure_logging(LogSettings(level="error"))
    asyncio.run(record(*sys.argv[1:]))
