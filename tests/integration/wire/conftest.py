"""One application in this process over the fake engine, with a run, a key and a tenant that paths can name."""

import asyncio
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from tests.integration.wire.document import Document, Operation
from tests.integration.wire.routes import MODEL, REMOTES, ROUTES
from trainyard import app
from trainyard.core.settings import ServerSettings, Settings, TrainingSettings
from trainyard.engine.fake import FakeEngine, FakeEngines
from trainyard.testing import tiny_model

MAX_BODY_BYTES = 1 << 20
SCOPES = ("train", "generate", "admin")


@dataclass(frozen=True)
class Wire:
    """A server to send things to.

    Attributes:
        client: Sends them.
        engine: Behind its model.
        document: Judges its answers.
        keys: One key for each scope, and one under "admin key" that has all.
        values: Of path parameters.
    """

    client: TestClient
    engine: FakeEngine
    document: Document
    keys: dict[str, str]
    values: dict[str, str] = field(default_factory=dict)

    def path(self, operation: Operation, **values: str) -> str:
        """Fill in the parameters of a path."""
        return operation.path.format_map({**self.values, **ROUTES[operation.name].values, **values})

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        key: str | None = "all",
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Send a request with the key of a scope, all of them or none."""
        own = {} if key is None else {"Authorization": f"Bearer {self.keys.get(key, key)}"}
        sent = {"content": content} if content is not None else {} if body is None else {"json": body}
        return self.client.request(method.upper(), path, headers={**own, **(headers or {})}, **sent)

    def judge(self, operation: Operation, answer: Any) -> None:
        """Fail when the document does not describe an answer."""
        is_json = answer.headers["content-type"] == "application/json"
        body = answer.json() if is_json else answer.text
        assert self.document.faults(operation, answer.status_code, answer.headers["content-type"], body) == []
        assert answer.headers["x-request-id"]


@pytest.fixture(scope="session")
def free_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest.fixture(scope="module")
def wire(tmp_path_factory: pytest.TempPathFactory, free_port: int) -> Iterator[Wire]:
    directory = tmp_path_factory.mktemp("wire")
    tiny_model.write(directory / "tiny")
    able = "capabilities: [generate, chat, embed]"
    away = f"backend: openai, base_url: 'http://127.0.0.1:{free_port}/v1', retries: 0, {able}"
    entries = [f"{{name: {MODEL}, path: tiny, {able}}}", *(f"{{name: {name}, {away}}}" for name in REMOTES)]
    (directory / "models.yaml").write_text(f"models: [{', '.join(entries)}]", encoding="utf-8")
    (directory / "data").mkdir(mode=0o700)
    settings = Settings(
        data_dir=directory / "data",
        models_file=directory / "models.yaml",
        secret=SecretStr("a secret of these tests"),
        server=ServerSettings(max_body_bytes=MAX_BODY_BYTES),
        training=TrainingSettings(max_live_runs_per_user=10_000),
    )
    first = app.bootstrap(settings).first_key
    assert first is not None
    engine = FakeEngine(MODEL, vocab_size=tiny_model.VOCAB_SIZE, max_positions=tiny_model.MAX_POSITIONS)
    server = app.build_server(settings, FakeEngines({MODEL: engine}))
    with TestClient(server.app, raise_server_exceptions=False) as client:
        yield _furnished(Wire(client, engine, Document(client.get("/openapi.json").json()), {"all": first}))
    server.close()
    asyncio.run(engine.aclose())


def _furnished(wire: Wire) -> Wire:
    for scope in SCOPES:
        made = wire.call("POST", "/v1/admin/keys", {"user_id": "ann", "scopes": [scope]})
        wire.keys[scope] = made.json()["key"]
        wire.values["key_id"] = made.json()["id"]
    wire.values.update(new_run(wire))
    wire.values["name"] = "lab"
    assert wire.call("PUT", "/v1/admin/tenants/lab", {}).status_code == 200
    return wire


def new_run(wire: Wire) -> dict[str, str]:
    """Open a run with a checkpoint."""
    run_id = wire.call("POST", "/runs", {"base_model": MODEL}).json()["run_id"]
    saved = wire.call("POST", f"/runs/{run_id}/save_state", {"mode": "adapter"})
    assert saved.status_code == 200, saved.text
    artifacts = wire.call("GET", f"/runs/{run_id}/artifacts").json()
    return {"run_id": run_id, "artifact_id": str(artifacts[0]["id"])}


def new_key(wire: Wire, **wishes: Any) -> dict[str, str]:
    """Make a key; its id, and itself as `key`."""
    made = wire.call("POST", "/v1/admin/keys", {"user_id": "bob", "scopes": ["generate"], **wishes}).json()
    return {"key_id": made["id"], "key": made["key"]}
