"""The log of a real server: one line per request, also of those that run while it ends."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from trainyard.sdk.local_server import LocalServer

REQUESTS = 300
ASKED = {"model": "yard/parrot", "messages": [{"role": "user", "content": "say this back"}], "temperature": 0}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalServer]:
    models = tmp_path / "models.yaml"
    models.write_text("models: [{name: yard/parrot, backend: fake, trainable: false}]\n", encoding="utf-8")
    environment = {"TRAINYARD_MODELS_FILE": str(models)}
    with LocalServer(tmp_path / "data", environment=environment) as started:
        yield started


def _lines(server: LocalServer) -> list[dict[str, Any]]:
    text = (server.data_dir / "logs" / "http.log").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_no_line_is_lost_when_the_server_is_told_to_end(server: LocalServer) -> None:
    headers = {"Authorization": f"Bearer {server.key}"}
    answered: list[str] = []
    refused: list[str] = []

    def ask(client: httpx.Client, name: str) -> None:
        for number in range(REQUESTS):
            request_id = f"{name}.{number}"
            try:
                answer = client.post("/v1/chat/completions", json=ASKED, headers={"X-Request-ID": request_id})
            except httpx.TransportError:
                return  # it has ended
            assert answer.headers["x-request-id"] == request_id
            (answered if answer.status_code == 200 else refused).append(request_id)
            if answer.status_code != 200:
                assert answer.json()["error"]["code"] == "draining"
                return

    with httpx.Client(base_url=server.url, headers=headers) as client:
        asking = [threading.Thread(target=ask, args=(client, name)) for name in "abcd"]
        for thread in asking:
            thread.start()
        while len(answered) < 50:
            time.sleep(0.01)
        server.stop()
        for thread in asking:
            thread.join(30)
    requests = {line["request_id"]: line for line in _lines(server) if line["event"] == "request"}
    assert set(answered) | set(refused) <= set(requests)
    line = requests[answered[0]]
    assert {**line, "timestamp": "", "bytes": 0, "ms": 0, "key_id": ""} == {
        "timestamp": "",
        "level": "info",
        "logger": "access",
        "event": "request",
        "request_id": answered[0],
        "method": "POST",
        "path": "/v1/chat/completions",
        "route": "/v1/chat/completions",
        "status": 200,
        "bytes": 0,
        "ms": 0,
        "tenant": "default",
        "user": "admin",
        "key_id": "",
        **{name: line[name] for name in line if name not in _EVERY_LINE},
    }
    assert line["model"] == "yard/parrot"
    assert "say this back" not in json.dumps(line)


_EVERY_LINE = frozenset(
    {"timestamp", "level", "logger", "event", "request_id", "method", "path", "route", "status", "bytes", "ms"}
    | {"tenant", "user", "key_id"}
)


def test_lines_come_within_a_moment(server: LocalServer) -> None:
    with httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {server.key}"}) as client:
        client.post("/v1/chat/completions", json=ASKED, headers={"X-Request-ID": "one"}).raise_for_status()
    ends_at = time.monotonic() + 5
    while not any(line.get("request_id") == "one" for line in _lines(server)):
        assert time.monotonic() < ends_at
        time.sleep(0.02)
