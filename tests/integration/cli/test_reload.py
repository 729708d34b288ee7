"""Configuration that changes under a running server."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

import trainyard.engine
from trainyard.sdk.local_server import LocalServer

MODELS = "models: [{name: fake/one, backend: fake}]"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    (tmp_path / "models.yaml").write_text(MODELS)
    (tmp_path / "trainyard.yaml").write_text(f"models_file: {tmp_path / 'models.yaml'}\n")
    with LocalServer(tmp_path / "data", arguments=("--config", str(tmp_path / "trainyard.yaml"))) as running:
        yield running


def until(is_true: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def names(client: httpx.Client) -> list[str]:
    return [model["id"] for model in client.get("/v1/models").json()["data"]]


@pytest.fixture
def client(server: LocalServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, headers={"X-API-Key": server.key}, timeout=30) as made:
        yield made


def say(client: httpx.Client, model: str) -> int:
    return client.post("/v1/generate", json={"prompt": "one two", "model": model}).status_code


def test_models_come_and_go_with_the_file(server: LocalServer, client: httpx.Client, tmp_path: Path) -> None:
    assert (say(client, "fake/one"), say(client, "fake/two")) == (200, 404)
    (tmp_path / "models.yaml").write_text("models: [{name: fake/two, backend: fake}]")
    until(lambda: names(client) == ["fake/two"])
    assert (say(client, "fake/one"), say(client, "fake/two")) == (404, 200)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("models: [{name: fake/two, backend: fake, pth: x}]", "did you mean 'path'"),
        ("models: [", "is not YAML"),
        ("", "is empty"),
        ("models: [{name: fake/two, backend: local, path: nowhere, load: eager}]", "config.json"),
    ],
)
def test_a_faulty_file_changes_nothing_and_is_told(
    server: LocalServer, client: httpx.Client, tmp_path: Path, bad: str, why: str
) -> None:
    (tmp_path / "models.yaml").write_text(bad)
    until(
        lambda: "configuration not read again" in server.log.read_text() or "reload_refused" in server.log.read_text()
    )
    assert why in server.log.read_text()
    assert names(client) == ["fake/one"]
    assert say(client, "fake/one") == 200
    (tmp_path / "models.yaml").write_text("models: [{name: fake/two, backend: fake}]")
    until(lambda: names(client) == ["fake/two"])


def test_readiness_follows_the_catalog(server: LocalServer, client: httpx.Client, tmp_path: Path) -> None:
    pocket = Path(trainyard.engine.__file__).parent / "pocket"
    (tmp_path / "models.yaml").write_text(f"models: [{{name: test/pocket, path: {pocket}, load: eager}}]")
    until(lambda: client.get("/readyz").json()["checks"].get("engine:test/pocket") == {"ok": True}, timeout_s=60)
    (tmp_path / "models.yaml").write_text(MODELS)
    until(lambda: "engine:test/pocket" not in client.get("/readyz").json()["checks"])
    assert client.get("/readyz").status_code == 200


def test_limits_take_effect_at_a_hangup_and_the_rest_is_named(
    server: LocalServer, client: httpx.Client, tmp_path: Path
) -> None:
    config = tmp_path / "trainyard.yaml"
    before = config.stat()
    config.write_text(config.read_text() + "limits: {requests: 2}\ncache: {ttl_s: 5}\n")
    os.utime(config, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.kill(server.pid, signal.SIGHUP)
    until(lambda: "cache.ttl_s" in server.log.read_text())
    until(lambda: client.post("/v1/generate", json={"prompt": "x"}).status_code == 429)
    assert client.get("/readyz").status_code == 200
