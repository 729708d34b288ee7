"""The engine that a test is held against, in each of its implementations."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.contract.engine.harness import shared_process, write_tiny_llama
from tests.contract.engine.implementations import Make, made_by
from trainyard.engine import base
from trainyard.engine.server_config import EngineServerConfig


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llama(tmp_path_factory.mktemp("tiny_llama"))


@pytest.fixture(scope="session")
def shared(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    socket = tmp_path_factory.mktemp("shared") / "engine.sock"
    config = EngineServerConfig(socket=str(socket), name="tiny", model_dir=str(tiny_llama), device="cpu", threads=1)
    with shared_process(config) as path:
        yield path


@pytest.fixture(params=["fake", "inline", "socket-fake", "socket"])
async def make(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Make]:
    async for one in made_by(request.param, request, tmp_path):
        yield one


@pytest.fixture(params=["fake", "socket"])
async def make_mortal(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Make]:
    async for one in made_by(request.param, request, tmp_path, may_share=False):
        yield one


@pytest.fixture
async def engine(make: Make) -> base.Engine:
    return (await make()).engine
