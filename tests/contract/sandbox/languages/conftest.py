"""One backend of each kind with the packages of the sandbox, and the languages of this machine."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract.sandbox.backends.local.grounds import grounds
from tests.services.packages import require_packages
from trainyard.core.settings import SandboxSettings, Settings
from trainyard.sandbox.backends.base import Backend, Box
from trainyard.sandbox.backends.fake import FakeBackend
from trainyard.sandbox.languages import Languages, Reach


@pytest_asyncio.fixture(loop_scope="session", scope="session", params=["fake", "local"])
async def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Backend]:
    home = tmp_path_factory.mktemp("languages")
    if request.param == "local":
        sandbox = SandboxSettings(warm=2, warm_science=0, packages=require_packages())
        async with grounds(home, Settings(data_dir=home / "data", sandbox=sandbox)) as made:
            yield made.backend
    else:
        plain = FakeBackend()
        yield plain
        await plain.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def box(backend: Backend) -> AsyncIterator[Box]:
    taken = await backend.take("lean", "tenant")
    yield taken
    await taken.close()


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def languages() -> Languages:
    return await Languages.discover(Reach(require_packages()), 512 << 20)


@pytest.fixture
def builds_directory(tmp_path: Path) -> Path:
    return tmp_path / "builds"
