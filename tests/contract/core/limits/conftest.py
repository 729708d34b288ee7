from collections.abc import AsyncIterator

import pytest

from tests.contract.core.limits import stand as stands
from tests.contract.core.limits.stand import Stand


@pytest.fixture(params=["memory", "redis"])
async def stand(request: pytest.FixtureRequest) -> AsyncIterator[Stand]:
    """A limiter of each kind over a clock of the test."""
    if request.param == "memory":
        made = stands.memory_stand()
    else:
        made = stands.redis_stand(request.getfixturevalue("redis_url"))
    yield made
    await made.close()
