"""`/healthz` and `/readyz`: alive, able to work, and quick to say so when something that is needed is away."""

import asyncio
import socket
import time
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.integration.gateway.gateway import Gateway
from trainyard import app
from trainyard.core.settings import RedisSettings, Settings
from trainyard.engine.fake import FakeEngine, FakeEngines
from trainyard.testing.plugin import OTHER_TEST_MODEL, TEST_MODEL

FAST_S = 3.0


def test_the_process_is_alive_for_whoever_asks(gateway: Gateway) -> None:
    answer = gateway.request("GET", "/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_a_server_whose_dependencies_work_is_ready(gateway: Gateway) -> None:
    began_s = time.monotonic()
    answer = gateway.request("GET", "/readyz")
    assert time.monotonic() - began_s < FAST_S
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["status"], body["checks"]["database"]) == ("ready", {"ok": True})
    assert all(check["ok"] for check in body["checks"].values())


def test_what_the_server_is_holds_no_secret_and_no_path(gateway: Gateway) -> None:
    answer = gateway.request("GET", "/health")
    assert (answer.status_code, answer.json()["config"]["default_model"]) == (200, gateway.model)
    assert gateway.admin_key not in answer.text
    assert not any(word in answer.text for word in ("trainyard.db", "/tmp", "/home", "/root", "/var"))  # noqa: S108


# ---------------------------------------------------------------- dependencies that break, in this process


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port that takes connections and never says a word, as a stalled server does."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


def ready(settings: Settings, engines: FakeEngines) -> tuple[int, dict[str, dict[str, object]], float]:
    """Ask a server of this process; the status, the checks, the seconds it took."""
    server = app.build_server(settings, engines)
    try:
        with TestClient(server.app) as client:
            assert client.get("/healthz").status_code == 200
            began_s = time.monotonic()
            answer = client.get("/readyz")
            took_s = time.monotonic() - began_s
            assert answer.status_code == 200 or answer.headers["Retry-After"] == "1"
            return answer.status_code, answer.json()["checks"], took_s
    finally:
        server.close()


def test_a_silent_redis_makes_the_server_not_ready_and_it_says_so_fast(
    test_settings: Settings, fake_engine: FakeEngine, dead_port: int
) -> None:
    settings = test_settings.model_copy(update={"redis": RedisSettings(url=f"redis://127.0.0.1:{dead_port}/0")})
    status, checks, took_s = ready(settings, FakeEngines({TEST_MODEL: fake_engine, OTHER_TEST_MODEL: fake_engine}))
    assert (status, checks["redis"]["ok"], checks["database"]["ok"]) == (503, False, True)
    assert took_s < FAST_S
    assert str(dead_port) not in str(checks)


@pytest.mark.parametrize("knob", ["none", "slow"])
def test_an_engine_that_does_not_answer_makes_the_server_not_ready(test_settings: Settings, knob: str) -> None:
    assert test_settings.models_file is not None
    test_settings.models_file.write_text(f"models: [{{name: {TEST_MODEL}, path: tiny, load: eager}}]", encoding="utf-8")
    slow = FakeEngine(TEST_MODEL, latency_s=30)
    status, checks, took_s = ready(test_settings, FakeEngines({} if knob == "none" else {TEST_MODEL: slow}))
    assert (status, checks[f"engine:{TEST_MODEL}"]["ok"]) == (503, False)
    assert took_s < FAST_S
    asyncio.run(slow.aclose())
