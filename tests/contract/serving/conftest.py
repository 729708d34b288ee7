from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.contract.serving.fleet import Fleet, fleet


@pytest.fixture
async def yard(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet(tmp_path) as built:
        yield built
