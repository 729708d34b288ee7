"""Bad input to a real server: each request its 4xx with a message that says what would be right."""

from collections.abc import Iterator

import httpx
import pytest

from tests.integration.serving import malformed as serving
from tests.integration.training import malformed as training
from trainyard.testing.plugin import LiveServer

POCKET = "trainyard/pocket"
TRAINING = [pytest.param(row, id=f"training: {row.name}") for row in training.REQUESTS]
SERVING = [pytest.param(row, id=f"serving: {row.name}") for row in serving.table(POCKET)]


@pytest.fixture(scope="module")
def http(live_server: LiveServer) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {live_server.key}", "Content-Type": "application/json"}
    with httpx.Client(base_url=live_server.url, headers=headers, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def run_id(live_server: LiveServer) -> Iterator[str]:
    with live_server.client() as client:
        run = client.create_run(base_model=POCKET, lora_r=2)
        yield run.run_id
        run.complete()


def assert_it_still_answers(http: httpx.Client) -> None:
    assert http.get("/readyz").status_code == httpx.codes.OK


def message(answer: httpx.Response) -> str:
    error = answer.json()["error"]
    return str(error["message"] if isinstance(error, dict) else error)


def test_the_tables_hold_at_least_forty_requests() -> None:
    assert len(TRAINING) + len(SERVING) >= 40


@pytest.mark.parametrize("row", TRAINING)
def test_malformed_training_requests_are_refused(row: training.Malformed, http: httpx.Client, run_id: str) -> None:
    path = row.path.replace("{run}", run_id)
    answer = http.request(row.method, path, content=row.content(POCKET))
    assert answer.status_code == row.status, answer.text
    assert row.says.replace(training.MODEL, POCKET) in message(answer)
    assert_it_still_answers(http)


@pytest.mark.parametrize("row", SERVING)
def test_malformed_serving_requests_are_refused(row: serving.Malformed, http: httpx.Client) -> None:
    answer = http.post(row.path, content=row.content)
    assert answer.status_code == row.status, answer.text
    assert row.says in message(answer)
    assert_it_still_answers(http)


@pytest.mark.parametrize("path", ["/runs", "/v1/generate", "/v1/chat/completions"])
def test_a_huge_body_is_refused_by_what_comes_and_by_what_is_declared(http: httpx.Client, path: str) -> None:
    pieces = (b"x" * 1024 * 1024 for _ in range(21))  # sent in chunks, without a declared length
    for content in (b"x" * (21 * 1024 * 1024), pieces):
        answer = http.post(path, content=content)
        assert answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE
        assert "20971520 bytes" in message(answer)
    assert_it_still_answers(http)
