import json
import re
from collections.abc import Iterator

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from trainyard.core.http.application import HttpParts
from trainyard.core.http.routing import DialectMap
from trainyard.core.settings import LogSettings
from trainyard.core.telemetry import configure_logging


def test_a_usable_request_id_comes_back(stranger: TestClient) -> None:
    assert stranger.get("/", headers={"X-Request-ID": "a.b-c:1"}).headers["x-request-id"] == "a.b-c:1"


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "line\u0080", '"quoted"', "<script>"])
def test_an_unusable_request_id_is_replaced(stranger: TestClient, given: str) -> None:
    made = stranger.get("/", headers={b"X-Request-ID": given.encode("latin-1")}).headers["x-request-id"]
    assert re.fullmatch(r"req_[0-9a-f]{24}", made)


def test_an_error_carries_the_id_of_its_request(client: TestClient) -> None:
    answer = client.get("/runs/1/fail/bug", headers={"X-Request-ID": "mine"})
    assert answer.json()["request_id"] == answer.headers["x-request-id"] == "mine"


def test_every_answer_carries_the_security_headers(client: TestClient) -> None:
    for path in ("/", "/health", "/runs/1/fail/bug", "/nowhere"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "content-security-policy" not in client.get("/docs").headers


@pytest.mark.parametrize(("size", "status"), [(2048, 200), (2049, 413)])
def test_a_declared_body_over_the_limit_is_refused(client: TestClient, size: int, status: int) -> None:
    answer = client.post("/runs/1/raw", content=b"x" * size)
    assert answer.status_code == status
    if status == 413:
        assert answer.json()["code"] == "request_too_large"
        assert answer.json()["data"] == {"max_body_bytes": 2048}
        assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(("size", "status"), [(2048, 200), (2049, 413)])
@pytest.mark.parametrize("path", ["/runs/1/raw", "/runs", "/v1/chat/completions"])
def test_a_streamed_body_over_the_limit_is_refused(client: TestClient, path: str, size: int, status: int) -> None:
    def pieces() -> Iterator[bytes]:
        start = b'{"rank": 1, "prompt": "'
        yield start
        for _ in range(size - len(start)):
            yield b"x"

    answer = client.post(path, content=pieces())
    assert (answer.status_code == 413) is (status == 413)


@pytest.mark.parametrize("length", ["9" * 30, "9" * 5000])
def test_an_absurd_length_is_refused(client: TestClient, length: str) -> None:
    assert client.post("/runs/1/raw", content=b"x", headers={"Content-Length": length}).status_code == 413


def test_metrics_are_labelled_by_template_and_not_by_path(client: TestClient) -> None:
    for run in range(30):
        client.get(f"/runs/run_{run}/fail/missing")
        client.get(f"/nowhere/{run}")
    client.request("BREW", "/runs")
    text = client.get("/metrics").text
    expected = 'trainyard_http_requests_total{method="GET",route="/runs/{run_id}/fail/{kind}",status="404"} 30.0'
    assert expected in text
    assert 'route="unmatched",status="404"} 30.0' in text
    assert 'method="other"' in text
    assert "run_1" not in text
    assert "trainyard_http_requests_in_flight 1.0" in text


def test_the_access_log_names_the_caller_and_holds_neither_keys_nor_bodies(
    app: FastAPI, parts: HttpParts, capfd: pytest.CaptureFixture[str]
) -> None:
    configure_logging(LogSettings(level="info", format="json"))
    key = parts.keys.generate_key("ada", tenant="lab")
    with TestClient(app, headers={"X-API-Key": key}, raise_server_exceptions=False) as client:
        client.post("/v1/chat/completions?secret=1", json={"prompt": "my private words"})
        client.get(f"/nowhere/{key}")
        client.get("/runs/1/fail/bug")
    configure_logging(LogSettings(level="warning", format="json"))
    written = capfd.readouterr().err
    lines = [json.loads(line) for line in written.splitlines()]
    first = next(line for line in lines if line["event"] == "request")
    assert (first["route"], first["status"], first["user"], first["tenant"]) == (
        *("/v1/chat/completions", 200, "ada", "lab"),
    )
    assert first["key_id"].startswith("key_")
    assert first["request_id"].startswith("req_")
    assert first["ms"] >= 0
    assert "my private words" not in written
    assert "secret=1" not in written
    assert key not in written
    assert "sk-" + "a" * 43 not in written  # the message of the exception that the route raised
    failed = next(line for line in lines if line["event"] == "request_failed")
    assert "KeyError" in failed["exception"]


def test_a_path_speaks_the_dialect_of_the_nearest_route_above_it() -> None:
    dialects = DialectMap()
    dialects.add(["/runs", "/runs/{run_id}/status", "/models"], "signal")
    dialects.add(["/v1/chat/completions"], "openai")
    dialects.add(["/"], "native")
    table = {
        "/runs": "signal",
        "/runs/1/nothing": "signal",
        "/runsx": "native",
        "/models/x": "signal",
        "/v1/chat/completions": "openai",
        "/v1/chat/completions/1": "openai",
        "/v1/chat": "native",
        "/": "native",
        "": "native",
    }
    assert {path: dialects.of(path) for path in table} == table
