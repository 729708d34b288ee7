"""A real server in front of failing upstreams, seen through the published `openai` client."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from trainyard.loadtest.mock import Latency, MockServer, in_thread
from trainyard.sdk.local_server import LocalServer

HELLO: Any = [{"role": "user", "content": "hello there"}]
LIMITS = "retries: 0, first_byte_timeout_s: 0.5, idle_timeout_s: 0.5"
CATALOG = """
default_model: far
models:
  - {{name: far, backend: openai, base_url: "{url}/v1", api_key_env: FAR_KEY, {limits}}}
  - {{name: guarded, backend: openai, base_url: "{url}/v1", upstream_model: "x:500", fallbacks: [house], {limits}}}
  - {{name: house, backend: ollama, base_url: "{url}", capabilities: [generate, chat, embed], {limits}}}
  - {{name: fragile, backend: openai, base_url: "{url}/v1", upstream_model: "x:500", {limits}}}
"""


@pytest.fixture(scope="module")
def mock() -> Iterator[MockServer]:
    with in_thread(MockServer(api_key=None, latency=Latency(answer_tokens=6))) as server:
        yield server


@pytest.fixture(scope="module")
def server(mock: MockServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    directory = tmp_path_factory.mktemp("upstreams")
    (directory / "models.yaml").write_text(CATALOG.format(url=mock.url, limits=LIMITS))
    environment = {"TRAINYARD_MODELS_FILE": str(directory / "models.yaml"), "FAR_KEY": "sk-upstream-secret-0123"}
    with LocalServer(directory / "data", environment=environment) as running:
        yield running


@pytest.fixture
def client(server: LocalServer, mock: MockServer) -> Iterator[openai.OpenAI]:
    mock.plan.clear()
    mock.seen.reset()
    mock.latency = Latency(answer_tokens=6)
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=10) as made:
        yield made


def until(is_true: Callable[[], bool], seconds: float = 5) -> None:
    ends = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < ends, "it did not come true in time"
        time.sleep(0.02)


def fresh(name: str) -> Any:
    """A prompt that no cache knows."""
    return [{"role": "user", "content": f"{name} {time.monotonic_ns()}"}]


def test_an_answer_comes_through_with_the_upstreams_own_counts(client: openai.OpenAI, mock: MockServer) -> None:
    answer = client.chat.completions.create(model="far", messages=HELLO, temperature=1)
    assert len((answer.choices[0].message.content or "").split()) == 6
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (2, 6)
    assert mock.seen.recent[-1].headers[b"authorization"] == b"Bearer sk-upstream-secret-0123"
    chunks = list(
        client.chat.completions.create(
            model="far", messages=HELLO, stream=True, stream_options={"include_usage": True}, temperature=1
        )
    )
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (2, 6)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("500", 502, "upstream_failed"),
        ("429", 503, "upstream_overloaded"),
        ("garbage", 502, "upstream_answer_unreadable"),
        ("html", 502, "upstream_answer_unreadable"),
        ("stall-head", 502, "upstream_timeout"),
        ("stall-body", 502, "upstream_timeout"),
        ("drop-head", 502, "upstream_failed"),
        ("drop-body", 502, "upstream_failed"),
        ("401", 502, "upstream_key_refused"),
        ("400", 400, "upstream_rejected"),
    ],
)
def test_a_failing_upstream_is_a_status_in_time(
    client: openai.OpenAI, mock: MockServer, fault: str, status: int, code: str
) -> None:
    client.chat.completions.create(model="far", messages=fresh("well"))  # so that no circuit opens over the table
    mock.plan.add(fault)
    began = time.monotonic()
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="far", messages=fresh(fault))
    assert time.monotonic() - began < 3
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert ("retry-after" in caught.value.response.headers) == (status == 503)
    assert "far" in caught.value.message
    assert "sk-upstream" not in caught.value.response.text
    assert mock.url not in caught.value.response.text


@pytest.mark.parametrize("fault", ["stall-body", "drop-body", "cut-event", "error-event"])
def test_a_stream_that_breaks_ends_with_an_error_event(
    client: openai.OpenAI, mock: MockServer, server: LocalServer, fault: str
) -> None:
    client.chat.completions.create(model="far", messages=fresh("well"))
    mock.plan.add(fault)
    body = {"model": "far", "messages": fresh(fault), "stream": True}
    headers = {"Authorization": f"Bearer {server.key}"}
    began = time.monotonic()
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, headers=headers, timeout=10) as answer:
        events = [line[6:] for line in answer.iter_lines() if line.startswith("data: ")]
    assert time.monotonic() - began < 3
    assert answer.status_code == 200
    assert json.loads(events[0])["choices"][0]["delta"]["content"] is not None
    error = next(json.loads(event)["error"] for event in events if "error" in event)
    assert error["code"] in ("upstream_timeout", "upstream_failed")
    assert "far" in error["message"]
    assert not any('"finish_reason":"' in event for event in events)


def test_a_client_that_leaves_ends_the_work_at_the_upstream(client: openai.OpenAI, mock: MockServer) -> None:
    mock.latency = Latency(token_s=0.1, answer_tokens=100)
    stream = client.chat.completions.create(model="far", messages=fresh("leaving"), stream=True)
    next(iter(stream))
    assert mock.seen.in_flight == 1
    stream.close()
    until(lambda: mock.seen.in_flight == 0, 1)
    assert mock.seen.aborted == 1


def test_a_fallback_answers_in_place_of_a_model_that_fails(client: openai.OpenAI, mock: MockServer) -> None:
    answer = client.chat.completions.create(model="guarded", messages=fresh("fallback"))
    assert answer.choices[0].message.content
    assert answer.model == "house"
    assert mock.seen.requests == {"/v1/chat/completions": 1, "/api/chat": 1}


def test_a_model_whose_circuit_is_open_is_listed_as_unavailable(client: openai.OpenAI, server: LocalServer) -> None:
    for _ in range(5):
        with pytest.raises(openai.APIStatusError, match="answered with status 500"):
            client.chat.completions.create(model="fragile", messages=fresh("circuit"))
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="fragile", messages=fresh("circuit"))
    assert (caught.value.status_code, caught.value.code) == (503, "upstream_unavailable")
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 5
    statuses = {model.id: getattr(model, "status", None) for model in client.models.list()}
    assert (statuses["fragile"], statuses["far"]) == ("unavailable", "available")
    assert httpx.get(f"{server.url}/readyz").status_code == 200
    shown = httpx.get(f"{server.url}/metrics").text
    assert 'trainyard_upstream_circuit{model="fragile"} 2.0' in shown


def test_a_changed_catalog_takes_effect_and_a_bad_one_does_not(
    client: openai.OpenAI, server: LocalServer, mock: MockServer
) -> None:
    file = server.data_dir.parent / "models.yaml"
    good = CATALOG.format(url=mock.url, limits=LIMITS)

    def names() -> set[str]:
        return {model.id for model in client.models.list()}

    def write(text: str) -> None:
        (file.parent / "new").write_text(text)
        (file.parent / "new").replace(file)

    write(good + "  - {name: newcomer, backend: fake}\n")
    until(lambda: "newcomer" in names(), 10)
    write("models: [{name: a, backend: vllm}]")
    until(lambda: "models.0.backend (a): Input should be" in server.log.read_text(), 10)
    assert "newcomer" in names()
    write(good)
    until(lambda: "newcomer" not in names(), 10)
    client.chat.completions.create(model="far", messages=fresh("after"))


def test_no_secret_and_no_prompt_is_in_the_logs(client: openai.OpenAI, server: LocalServer, mock: MockServer) -> None:
    mock.plan.add("401")
    with pytest.raises(openai.APIStatusError):
        client.chat.completions.create(model="far", messages=[{"role": "user", "content": "a-word-of-a-prompt"}])
    written = "".join(path.read_text() for path in Path(server.data_dir).rglob("*.log"))
    assert "sk-upstream-secret-0123" not in written
    assert "a-word-of-a-prompt" not in written
