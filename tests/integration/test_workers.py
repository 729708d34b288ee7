"""Several HTTP processes as one server: one limit, one ledger, one place that trains, one page of metrics."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import trainyard.engine
from tests.services.redis import RedisServer
from trainyard import Client
from trainyard.core.processes import runfile
from trainyard.sdk.local_server import LocalServer

WORKERS = 3
POCKET = Path(trainyard.engine.__file__).parent / "pocket"
CATALOG = f"""
models:
  - {{name: fake/model, backend: fake}}
  - {{name: test/pocket, path: {POCKET}, load: eager}}
"""


@pytest.fixture(scope="module")
def server(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    directory = tmp_path_factory.mktemp("workers")
    (directory / "models.yaml").write_text(CATALOG)
    environment = {
        "TRAINYARD_REDIS__URL": redis_server.next_url(),
        "TRAINYARD_MODELS_FILE": str(directory / "models.yaml"),
        "TRAINYARD_CACHE__SHARED": "redis",
    }
    with LocalServer(directory / "data", arguments=("--workers", str(WORKERS)), environment=environment) as running:
        yield running


def processes(server: LocalServer) -> dict[str, int]:
    run = runfile.read(server.data_dir / "run.json")
    assert run is not None
    return {child.name: child.pid for child in run.children if child.pid is not None}


def once(server: LocalServer, key: str, method: str, path: str, body: object = None) -> httpx.Response:
    """Ask over a connection of its own, which any of the processes may get."""
    with httpx.Client(base_url=server.url, headers={"X-API-Key": key}, timeout=60) as client:
        return client.request(method, path, json=body)


def sample(text: str, name: str) -> float:
    return sum(float(found) for found in re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE))


def test_the_processes_are_there(server: LocalServer) -> None:
    assert set(processes(server)) == {"http", "http:1", "http:2", "engine:test/pocket", "zygote:lean"}


def test_a_limit_holds_over_all_of_them_and_the_ledger_has_what_was_let_in(server: LocalServer) -> None:
    with Client(server.key, server.url) as admin:
        made = admin.create_key("bob", scopes=["generate"], limits={"requests": 30})
        time.sleep(1.1)  # every process knows a new key within a second

        def ask(number: int) -> int:
            body = {"prompt": f"say {number}", "max_new_tokens": 4, "model": "fake/model"}
            return once(server, made.key, "POST", "/v1/generate", body).status_code

        with ThreadPoolExecutor(16) as pool:
            assert Counter(pool.map(ask, range(90))) == {200: 30, 429: 60}
        used = once(server, made.key, "GET", "/v1/me/usage").json()["totals"]
        assert (used["requests"], used["total_tokens"]) == (30, 30 * 4)  # two words in, two words out


def test_metrics_are_those_of_all_of_them(server: LocalServer) -> None:
    name = 'trainyard_http_requests_total{method="GET",route="/v1/models",status="200"}'
    before = sample(once(server, server.key, "GET", "/metrics").text, name)
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: once(server, server.key, "GET", "/v1/models"), range(12)))
    pages = [once(server, server.key, "GET", "/metrics").text for _ in range(6)]
    assert [sample(page, name) - before for page in pages] == [12] * 6


def test_a_request_that_was_handed_on_counts_once(server: LocalServer) -> None:
    name = 'trainyard_http_requests_total{method="GET",route="/runs",status="200"}'
    before = sample(once(server, server.key, "GET", "/metrics").text, name)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: once(server, server.key, "GET", "/runs").status_code, range(12)))
    assert answers == [200] * 12
    assert sample(once(server, server.key, "GET", "/metrics").text, name) - before == 12


def test_a_run_is_trained_and_served_whichever_process_is_asked(server: LocalServer) -> None:
    batch = {"batch_data": [{"text": "over and over"}], "accumulate": False}
    made = once(server, server.key, "POST", "/runs", {"base_model": "test/pocket"})
    assert made.is_success, made.text
    run = made.json()["run_id"]
    for step in range(1, 5):
        answer = once(server, server.key, "POST", f"/runs/{run}/forward_backward", batch)
        assert answer.status_code == 200, answer.text
        assert once(server, server.key, "POST", f"/runs/{run}/optim_step", {}).json()["step"] == step
    listed = [once(server, server.key, "GET", "/v1/models").json()["data"] for _ in range(6)]
    assert all(run in [model["id"] for model in models] for models in listed)


def test_every_process_gives_the_same_document(server: LocalServer) -> None:
    documents = [once(server, server.key, "GET", "/openapi.json").json() for _ in range(6)]
    assert all(document == documents[0] for document in documents)
    assert "/runs/{run_id}/optim_step" in documents[0]["paths"]


@pytest.mark.parametrize("name", ["http", "http:1"])
def test_one_that_dies_is_started_again_and_the_others_go_on(server: LocalServer, name: str) -> None:
    died = processes(server)[name]
    os.kill(died, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while processes(server).get(name) in (None, died):
        assert time.monotonic() < deadline
        assert once(server, server.key, "GET", "/healthz").status_code == 200
    while once(server, server.key, "GET", "/readyz").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [once(server, server.key, "GET", "/runs").status_code for _ in range(6)] == [200] * 6


def test_more_than_one_without_a_redis_is_one_line_and_status_2(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "trainyard", "up", "--workers", "2", "--data-dir", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "server.workers" in line
    assert "redis.url" in line
