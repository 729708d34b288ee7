"""A writer on each kind of database, with a spool beside it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from trainyard.core.db import Database
from trainyard.core.db.spool import Spool
from trainyard.core.db.writer import GroupWriter


@pytest.fixture
def spool_directory(tmp_path: Path) -> Path:
    directory = tmp_path / "data"
    directory.mkdir()
    return directory


@pytest.fixture(params=["quick", "thread"])
async def writer(
    request: pytest.FixtureRequest, any_database: Database, database_url: str, spool_directory: Path
) -> AsyncIterator[GroupWriter]:
    """One that has started commits in the event loop where the database allows it."""
    made = GroupWriter(database_url, spool=Spool(spool_directory))
    if request.param == "quick":
        await made.start()
    yield made
    await made.aclose()
