"""One backend of each kind for the whole suite, a box of its own for every test."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.contract.sandbox.backends.implementations import IMPLEMENTATIONS
from trainyard.sandbox.backends.base import Backend, Box


@pytest_asyncio.fixture(loop_scope="session", scope="session", params=sorted(IMPLEMENTATIONS))
async def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Backend]:
    async with IMPLEMENTATIONS[request.param](tmp_path_factory.mktemp("backend")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def box(backend: Backend) -> AsyncIterator[Box]:
    taken = await backend.take("lean", "tenant")
    yield taken
    await taken.close()


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def _shared(backend: Backend) -> AsyncIterator[list[Box]]:
    taken = [await backend.take("lean", "tenant")]
    yield taken
    await taken[0].close()


@pytest_asyncio.fixture(loop_scope="session")
async def cell(backend: Backend, _shared: list[Box]) -> Box:
    """One box for all tests that only ask; none of them may end it."""
    assert _shared[0].is_alive, "an earlier test has ended the box"
    return _shared[0]
