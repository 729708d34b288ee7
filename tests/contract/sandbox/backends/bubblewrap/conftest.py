"""Zygotes of bubblewrap, for one test or for all of this folder."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract.sandbox.backends.local.grounds import Grounds, grounds
from tests.services import require
from trainyard.core.settings import SandboxSettings, Settings
from trainyard.sandbox.backends.base import Box


def settings(home: Path) -> Settings:
    return Settings(data_dir=home / "data", sandbox=SandboxSettings(backend="bubblewrap", warm=1))


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def ground(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Grounds]:
    if shutil.which("bwrap") is None:
        require.missing("bubblewrap (bwrap)", "apt-get install bubblewrap")
    home = tmp_path_factory.mktemp("bubblewrap")
    async with grounds(home, settings(home)) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def box(ground: Grounds) -> AsyncIterator[Box]:
    taken = await ground.backend.take("lean", "tenant")
    yield taken
    await taken.close()
