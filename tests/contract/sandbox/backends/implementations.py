"""Every backend that the suite runs against, by name."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from tests.contract.sandbox.backends.kubernetes import grounds as kubernetes_grounds
from tests.contract.sandbox.backends.local.grounds import grounds
from tests.services import require
from trainyard.core.settings import SandboxSettings, Settings
from trainyard.sandbox.backends.base import Backend
from trainyard.sandbox.backends.fake import FakeBackend


@asynccontextmanager
async def _fake(home: Path) -> AsyncIterator[Backend]:
    backend = FakeBackend()
    await backend.start()
    yield backend
    await backend.aclose()


@asynccontextmanager
async def _local(home: Path) -> AsyncIterator[Backend]:
    async with grounds(home) as made:
        yield made.backend


@asynccontextmanager
async def _bubblewrap(home: Path) -> AsyncIterator[Backend]:
    if shutil.which("bwrap") is None:
        require.missing("bubblewrap (bwrap)", "apt-get install bubblewrap")
    settings = Settings(data_dir=home / "data", sandbox=SandboxSettings(backend="bubblewrap", warm=3))
    async with grounds(home, settings) as made:
        yield made.backend


@asynccontextmanager
async def _kubernetes(home: Path) -> AsyncIterator[Backend]:
    async with kubernetes_grounds.backend() as made:
        yield made


IMPLEMENTATIONS: dict[str, Callable[[Path], AbstractAsyncContextManager[Backend]]] = {
    "bubblewrap": _bubblewrap,
    "fake": _fake,
    "kubernetes": _kubernetes,
    "local": _local,
}
"""Each takes a directory of its own, and skips the test with a reason where it cannot run."""
