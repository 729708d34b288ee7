"""Fixtures for tests of trainyard and of programs that use it; pytest loads this file by its entry point.

Nothing of trainyard is imported before a fixture needs it, so that coverage sees every line and other projects' test
runs pay nothing.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.testclient import TestClient

    from trainyard.core.catalog import ModelRegistry
    from trainyard.core.db import Database
    from trainyard.core.keys import APIKeyManager
    from trainyard.core.settings import Settings
    from trainyard.engine import calls
    from trainyard.engine.fake import FakeEngine
    from trainyard.sdk import AsyncClient, Client
    from trainyard.testing.spies import VerbSpy
    from trainyard.training.store import RunRegistry

TEST_MODEL = "meta-llama/Llama-3.2-1B"
OTHER_TEST_MODEL = "Qwen/Qwen2.5-0.5B"
_SECRET = "a secret of the tests, the same in every one"  # noqa: S105
_SCOPES = ("train", "generate")
_ALL_SCOPES = (*_SCOPES, "execute", "graph", "loadtest", "admin")

_MODELS = f"""\
models:
  - {{name: {TEST_MODEL}, framework: transformers, gpu: "l40s:1", family: llama, path: tiny}}
  - {{name: {OTHER_TEST_MODEL}, framework: unsloth, gpu: "l40s:1", family: qwen, path: tiny}}
"""


@dataclass(frozen=True)
class LiveServer:
    """A running server.

    Attributes:
        url: Base URL.
        key: A key that works there.
        data_dir: Its data; None when it is not ours (API_BASE).
        pid: Of its supervisor; None when it is not ours.
    """

    url: str
    key: str
    data_dir: Path | None = None
    pid: int | None = None

    def client(self) -> Client:
        """Open a blocking client."""
        from trainyard.sdk import Client

        return Client(self.key, self.url)

    def async_client(self) -> AsyncClient:
        """Open an async client."""
        from trainyard.sdk import AsyncClient

        return AsyncClient(self.key, self.url)


# ---------------------------------------------------------------- a real server


@pytest.fixture(scope="session")
def live_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A real `trainyard up` with the pocket model; with API_BASE (and TRAINYARD_API_KEY) set, the server there."""
    base = os.environ.get("API_BASE")
    if base:
        yield LiveServer(base.rstrip("/"), os.environ.get("TRAINYARD_API_KEY", ""))
        return
    from trainyard.sdk.local_server import LocalServer

    with LocalServer(tmp_path_factory.mktemp("live-server")) as server:
        yield LiveServer(server.url, server.key, server.data_dir, server.pid)


# ---------------------------------------------------------------- files


@pytest.fixture(scope="session")
def _migrated_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An empty database at the newest revision, migrated once a session."""
    from trainyard.core.db import Database

    path = tmp_path_factory.mktemp("migrated") / "trainyard.db"
    database = Database(f"sqlite:///{path}")
    database.migrate()
    database.close()
    return path.read_bytes()


@pytest.fixture
def temp_registry_file(tmp_path: Path, _migrated_database: bytes) -> Path:
    """A temporary SQLite file for runs, at the newest revision."""
    path = tmp_path / "data" / "trainyard.db"
    path.parent.mkdir(mode=0o700)
    path.write_bytes(_migrated_database)
    return path


@pytest.fixture
def temp_api_keys_file(temp_registry_file: Path) -> Path:
    """A temporary file for keys: the same database, since keys and runs are tables of one."""
    return temp_registry_file


@pytest.fixture
def temp_models_config(tmp_path: Path) -> Path:
    """A temporary `models.yaml` of two entries in Signal's form, over a tokenizer without weights."""
    from trainyard.testing import tiny_model

    tiny_model.write(tmp_path / "models" / "tiny")
    path = tmp_path / "models" / "models.yaml"
    path.write_text(_MODELS, encoding="utf-8")
    return path


# ---------------------------------------------------------------- managers


@pytest.fixture
def temp_database(temp_registry_file: Path) -> Iterator[Database]:
    """The database of the temporary file."""
    from trainyard.core.db import Database

    database = Database(f"sqlite:///{temp_registry_file}")
    yield database
    database.close()


@pytest.fixture
def test_settings(temp_registry_file: Path, temp_models_config: Path) -> Settings:
    """Settings over the temporary files."""
    from trainyard.core.settings import Settings

    return Settings(data_dir=temp_registry_file.parent, models_file=temp_models_config, secret=_SECRET)  # type: ignore[arg-type]


@pytest.fixture
def api_key_manager(test_settings: Settings, temp_database: Database) -> APIKeyManager:
    """An `APIKeyManager` over the temporary database, with the pepper of `test_client`."""
    from trainyard.core import opening
    from trainyard.core.clock import SystemClock

    return opening.keys(test_settings, temp_database, SystemClock())


@pytest.fixture
def run_registry(temp_database: Database) -> RunRegistry:
    """A `RunRegistry` over the temporary database."""
    from trainyard.core.clock import SystemClock
    from trainyard.training.store import RunRegistry

    return RunRegistry(temp_database, SystemClock())


@pytest.fixture
def model_registry(temp_models_config: Path) -> ModelRegistry:
    """A `ModelRegistry` over the temporary `models.yaml`."""
    from trainyard.core.catalog import ModelRegistry

    return ModelRegistry(temp_models_config)


# ---------------------------------------------------------------- the fake engine


@pytest.fixture
def fake_engine() -> Iterator[FakeEngine]:
    """The engine behind `test_client`: deterministic, without torch."""
    from trainyard.engine.fake import FakeEngine
    from trainyard.testing import tiny_model

    engine = FakeEngine(TEST_MODEL, vocab_size=tiny_model.VOCAB_SIZE, max_positions=tiny_model.MAX_POSITIONS)
    yield engine
    asyncio.run(engine.aclose())


def _spy(engine: FakeEngine, verb: str) -> VerbSpy[Any]:
    from trainyard.engine import calls
    from trainyard.testing.spies import VerbSpy

    return VerbSpy(engine, getattr(calls, verb))


@pytest.fixture
def fake_engine_create_run(fake_engine: FakeEngine) -> VerbSpy[calls.OpenRun]:
    """What `POST /runs` asked of the engine."""
    return _spy(fake_engine, "OpenRun")


@pytest.fixture
def fake_engine_forward_backward(fake_engine: FakeEngine) -> VerbSpy[calls.ForwardBackward]:
    """What `forward_backward` asked of the engine."""
    return _spy(fake_engine, "ForwardBackward")


@pytest.fixture
def fake_engine_optim_step(fake_engine: FakeEngine) -> VerbSpy[calls.OptimStep]:
    """What `optim_step` asked of the engine."""
    return _spy(fake_engine, "OptimStep")


@pytest.fixture
def fake_engine_sample(fake_engine: FakeEngine) -> VerbSpy[calls.Generate]:
    """What `sample` asked of the engine, one call per prompt."""
    return _spy(fake_engine, "Generate")


@pytest.fixture
def fake_engine_save_state(fake_engine: FakeEngine) -> VerbSpy[calls.Save]:
    """What `save_state` asked of the engine."""
    return _spy(fake_engine, "Save")


# ---------------------------------------------------------------- data


@pytest.fixture
def test_user_id() -> str:
    """The user who owns what the tests make."""
    return "test_user_123"


@pytest.fixture
def test_api_key(api_key_manager: APIKeyManager, test_user_id: str) -> str:
    """A key of the test user, who is no administrator."""
    return api_key_manager.generate_key(test_user_id, "key of the tests", scopes=_SCOPES)


@pytest.fixture
def other_api_key(api_key_manager: APIKeyManager) -> str:
    """A key of somebody else, no administrator either."""
    return api_key_manager.generate_key("other_user_456", "another key of the tests", scopes=_SCOPES)


@pytest.fixture
def test_admin_key(api_key_manager: APIKeyManager) -> str:
    """A key of an operator, which has every scope."""
    return api_key_manager.generate_key("operator_789", "admin key of the tests", scopes=_ALL_SCOPES)


@pytest.fixture
def sample_batch() -> list[dict[str, Any]]:
    """Examples of the format `text`."""
    return [{"text": "The quick brown fox jumps over the lazy dog."}, {"text": "Pack my box with five dozen jugs."}]


@pytest.fixture
def sample_messages_batch() -> list[dict[str, Any]]:
    """Examples of the format `messages`."""
    return [
        {"messages": [{"role": "user", "content": "Hello!"}, {"role": "assistant", "content": "Hi, how can I help?"}]},
        {
            "messages": [
                {"role": "system", "content": "You add numbers."},
                {"role": "user", "content": "1 + 1?"},
                {"role": "assistant", "content": "2"},
            ]
        },
    ]


@pytest.fixture
def sample_prompts() -> list[str]:
    """Prompts to continue."""
    return ["Once upon a time", "The meaning of life is"]


@pytest.fixture
def sample_run_config() -> dict[str, Any]:
    """What `POST /runs` takes."""
    return {"base_model": TEST_MODEL, "lora_r": 8, "lora_alpha": 16, "learning_rate": 5e-4}


# ---------------------------------------------------------------- the application in this process


@pytest.fixture
def test_client(
    test_settings: Settings, fake_engine: FakeEngine, test_api_key: str, other_api_key: str
) -> Iterator[TestClient]:
    """The whole application in this process over the fake engine, both test keys known to it."""
    from starlette.testclient import TestClient

    from trainyard import app
    from trainyard.engine.fake import FakeEngines

    engines = FakeEngines({TEST_MODEL: fake_engine, OTHER_TEST_MODEL: fake_engine})
    server = app.build_server(test_settings, engines)
    with TestClient(server.app) as client:
        yield client
    server.close()
