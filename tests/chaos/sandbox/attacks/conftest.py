"""One set of zygotes for all attacks, a box for each, and a neighbour who has to come through all of them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chaos.sandbox.attacks.attempts import is_well
from tests.contract.sandbox.backends.local.grounds import Grounds, grounds
from tests.contract.sandbox.backends.orders import run
from trainyard.sandbox.backends.base import Box


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Grounds]:
    async with grounds(tmp_path_factory.mktemp("attacked")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def neighbour(ground: Grounds) -> AsyncIterator[Box]:
    """A session of another tenant."""
    taken = await ground.backend.take("lean", "neighbour")
    await run(taken, "x = 41")
    yield taken
    await taken.close()


@pytest_asyncio.fixture(loop_scope="session")
async def box(ground: Grounds, neighbour: Box) -> AsyncIterator[Box]:
    """A box to attack from; it works afterwards, or its replacement does, and the neighbour has noticed nothing."""
    taken = await ground.backend.take("lean", "attacker")
    yield taken
    if not taken.is_alive:
        await taken.close()
        taken = await ground.backend.take("lean", "attacker")
    await is_well(taken)
    await taken.close()
    kept = await run(neighbour, "print(x + 1)", timeout_s=15)
    assert (kept.stdout, kept.report.was_reset) == (b"42\n", False)
