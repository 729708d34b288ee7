"""One yard, twice: the application in this process over the fake engine, and a real server over the pocket model."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from starlette.testclient import TestClient

from trainyard.testing.plugin import TEST_MODEL, LiveServer


class Answer(Protocol):
    """What both HTTP clients answer with."""

    status_code: int
    headers: Any
    content: bytes
    text: str

    def json(self) -> Any: ...


@dataclass(frozen=True)
class Yard:
    """A server to talk to, with keys of two users who are no administrators."""

    request: Callable[..., Any]
    model: str
    key: str
    other_key: str

    def call(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> Answer:
        headers = {"Authorization": f"Bearer {key or self.key}"}
        answer: Answer = self.request(method, path, headers=headers, **({} if body is None else {"json": body}))
        return answer

    def get(self, path: str) -> Any:
        return self._good(self.call("GET", path))

    def post(self, path: str, body: Any = None) -> Any:
        return self._good(self.call("POST", path, body))

    def _good(self, answer: Answer) -> Any:
        assert answer.status_code == 200, answer.text
        return answer.json()


OpenRun = Callable[..., str]


@pytest.fixture(scope="session")
def live_keys(live_server: LiveServer) -> tuple[str, str]:
    """Keys of two users of the live server, no administrators where the server is ours."""
    if live_server.data_dir is None:
        other = os.environ.get("API_OTHER_KEY")
        if not other:
            pytest.skip("API_BASE is set: API_OTHER_KEY must hold the key of a second user")
        return live_server.key, other
    return _new_key(live_server.data_dir, "one"), _new_key(live_server.data_dir, "two")


@pytest.fixture(params=["in process", "live"])
def yard(request: pytest.FixtureRequest) -> Iterator[Yard]:
    if request.param == "in process":
        client: TestClient = request.getfixturevalue("test_client")
        keys = (request.getfixturevalue("test_api_key"), request.getfixturevalue("other_api_key"))
        yield Yard(client.request, TEST_MODEL, *keys)
        return
    server: LiveServer = request.getfixturevalue("live_server")
    keys = request.getfixturevalue("live_keys")
    with httpx.Client(base_url=server.url, timeout=60) as live:
        yield Yard(live.request, "trainyard/pocket", *keys)


@pytest.fixture
def open_run(yard: Yard) -> Iterator[OpenRun]:
    """Opens runs and completes them at the end, so that tests do not run into the limit of live runs."""
    opened: list[tuple[str, str]] = []

    def make(key: str | None = None, **config: Any) -> str:
        body = {"base_model": yard.model, "lora_r": 4, "seed": 1, **config}
        run_id = str(yard._good(yard.call("POST", "/runs", body, key=key))["run_id"])
        opened.append((run_id, key or yard.key))
        return run_id

    yield make
    for run_id, key in opened:
        yard.call("POST", f"/runs/{run_id}/complete", key=key)


def _new_key(data_dir: Path, user: str) -> str:
    made = subprocess.run(
        [
            sys.executable, "-m", "trainyard", "keys", "create", "--json", "--data-dir", str(data_dir),
            "--user", user, "--scopes", "train,generate",
        ],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return str(json.loads(made.stdout)["key"])
