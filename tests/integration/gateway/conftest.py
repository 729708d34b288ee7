"""`gateway` is the application in this process; with `API_BASE` and `TRAINYARD_API_KEY` set, the server there."""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from tests.integration.gateway.gateway import Gateway, MakeKey, default_model, keys_of
from trainyard import app
from trainyard.core.clock import FakeClock
from trainyard.core.settings import Settings
from trainyard.engine.fake import FakeEngine, FakeEngines
from trainyard.testing import tiny_model
from trainyard.testing.plugin import LiveServer

MODEL = "yard/tiny"


@pytest.fixture(scope="session")
def gateway(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """One server for all tests, as a deployed one is; each makes keys of its own."""
    if os.environ.get("API_BASE"):
        yield from _live(request.getfixturevalue("live_server"))
    else:
        yield from _in_process(tmp_path_factory.mktemp("gateway"))


def _live(server: LiveServer) -> Iterator[Gateway]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        model = default_model(client.request, server.key)
        yield Gateway(client.request, server.key, model, time.time, time.sleep)


def _in_process(directory: Path) -> Iterator[Gateway]:
    tiny_model.write(directory / "tiny")
    (directory / "models.yaml").write_text(f"models: [{{name: {MODEL}, path: tiny}}]", encoding="utf-8")
    (directory / "data").mkdir(mode=0o700)
    settings = Settings(
        data_dir=directory / "data", models_file=directory / "models.yaml", secret=SecretStr("a secret of these tests")
    )
    key, clock = app.bootstrap(settings).first_key, FakeClock(time.time())
    assert key is not None
    engine = FakeEngine(MODEL, vocab_size=tiny_model.VOCAB_SIZE, max_positions=tiny_model.MAX_POSITIONS)
    server = app.build_server(settings, FakeEngines({MODEL: engine}), clock=clock)
    with TestClient(server.app) as client:
        yield Gateway(client.request, key, default_model(client.request, key), clock.now, clock.advance)
    server.close()
    asyncio.run(engine.aclose())


@pytest.fixture
def new_key(gateway: Gateway) -> Iterator[MakeKey]:
    """Makes keys that are revoked at the end of the test."""
    with keys_of(gateway) as make:
        yield make
