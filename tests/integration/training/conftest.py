from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.training.yard import Yard
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database


@pytest.fixture
async def yard(tmp_path: Path, database: Database, clock: FakeClock) -> AsyncIterator[Yard]:
    async with Yard(tmp_path, database, clock) as built:
        yield built
