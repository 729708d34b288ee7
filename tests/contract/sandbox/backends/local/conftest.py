"""One set of zygotes for the tests of this folder, a box of its own for every test."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.contract.sandbox.backends.local.grounds import Grounds, grounds
from trainyard.sandbox.backends.base import Box


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Grounds]:
    async with grounds(tmp_path_factory.mktemp("local")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def box(ground: Grounds) -> AsyncIterator[Box]:
    taken = await ground.backend.take("lean", "tenant")
    yield taken
    await taken.close()
