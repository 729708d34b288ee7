"""A ledger on each kind of database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from trainyard.core.db import Database
from trainyard.core.db.spool import Spool
from trainyard.core.db.writer import GroupWriter
from trainyard.core.ledger.service import Ledger


@pytest.fixture
async def writer(any_database: Database, database_url: str, tmp_path: Path) -> AsyncIterator[GroupWriter]:
    made = GroupWriter(database_url, spool=Spool(tmp_path))
    yield made
    await made.aclose()


@pytest.fixture
def ledger(writer: GroupWriter, any_database: Database) -> Ledger:
    return Ledger(writer, any_database)
