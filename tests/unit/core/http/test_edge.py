"""Every way in which a request can go wrong, in the dialect of its path."""

import math

import pytest
from fastapi import APIRouter, FastAPI
from starlette.testclient import TestClient
from starlette.types import Message, Scope

from trainyard.core.http import edge
from trainyard.core.http.application import HttpParts, build_http
from trainyard.core.settings import Settings


@pytest.mark.parametrize(
    ("kind", "status", "code", "message"),
    [
        ("model", 400, "model_not_found", "no such model"),
        ("missing", 404, "not_found", "no such run"),
        ("foreign", 403, "forbidden", "not yours"),
        ("conflict", 409, "no_gradients", "nothing to apply"),
        ("limit", 429, "rate_limit_exceeded", "five runs"),
        ("away", 503, "engine_restarting", "restarting"),
        ("slow", 504, "deadline_exceeded", "did not finish"),
        ("bug", 500, "internal_error", "Something inside the server went wrong"),
        ("http", 418, "validation_error", "teapot"),
        ("http500", 500, "internal_error", "Something inside the server went wrong"),
        ("group", 404, "not_found", "in a task"),
        ("surrogate", 422, "invalid_text", "half of a surrogate pair"),
        ("groups", 500, "internal_error", "Something inside the server went wrong"),
    ],
)
def test_what_a_signal_route_raises_is_answered_in_its_shape(
    client: TestClient, kind: str, status: int, code: str, message: str
) -> None:
    answer = client.get(f"/runs/run_1/fail/{kind}")
    body = answer.json()
    assert (answer.status_code, body["code"]) == (status, code)
    assert message in body["error"]
    assert body["detail"] == body["error"] or (status == 422 and body["detail"][0]["msg"] == body["error"])
    assert body["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(("kind", "status"), [("model", 404), ("missing", 404), ("bug", 500), ("away", 503)])
def test_a_native_route_answers_in_the_native_shape(client: TestClient, kind: str, status: int) -> None:
    answer = client.get(f"/v1/things/fail/{kind}")
    body = answer.json()
    assert answer.status_code == status
    assert body["code"] == body["error"]["code"]
    assert body["message"] == body["error"]["message"]
    assert body["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(("kind", "status"), [("model", 404), ("detail", 400), ("bug", 500), ("limit", 429)])
def test_an_openai_route_answers_in_the_openai_shape(client: TestClient, kind: str, status: int) -> None:
    answer = client.post("/v1/chat/completions", json={"prompt": kind})
    assert answer.status_code == status
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_the_time_to_wait_is_a_header_in_whole_seconds(client: TestClient) -> None:
    assert client.get("/runs/1/fail/away").headers["retry-after"] == "3"
    assert client.get("/runs/1/fail/limit").headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("content", "field", "message"),
    [
        ('{"rank": 9}', "rank", "rank: Input should be less than or equal to 8"),
        ('{"rank": "x"}', "rank", "rank: Input should be a valid integer"),
        ("{}", "rank", "rank: Field required"),
        ('{"rank": 1, "alpha": 2}', "alpha", "alpha: Extra inputs are not permitted"),
        ('{"rank": 1, "parts": [{}, {"a": "x"}]}', "a", "parts[1].a: Input should be a valid integer"),
        ('{"rank": NaN}', "rank", "rank: "),
        ('{"rank": "\\ud800"}', "rank", "rank: Input should be a valid"),
        ('{"rank": 1, "\\ud800": 1}', "body", "body: Input should be a valid string"),
    ],
)
def test_a_body_that_does_not_fit_names_the_field_and_keeps_the_list(
    client: TestClient, content: str, field: str, message: str
) -> None:
    answer = client.post("/runs", content=content)
    body = answer.json()
    assert answer.status_code == 422
    assert body["error"].startswith(message)
    assert body["detail"][0]["loc"][-1] == field
    assert set(body["detail"][0]) >= {"type", "loc", "msg"}


@pytest.mark.parametrize("content", ["{", "", "[1", '{"rank": 1}}', "\x00"])
def test_a_body_that_is_no_json_is_422(client: TestClient, content: str) -> None:
    answer = client.post("/runs", content=content)
    assert answer.status_code == 422
    assert answer.json()["error"]


@pytest.mark.parametrize("content", [b'{"rank": "\xff"}', b"\xfe", b'{"rank": 1}\xc3'])
def test_a_body_that_is_not_utf_8_is_422_and_says_so(client: TestClient, content: bytes) -> None:
    answer = client.post("/runs", content=content)
    body = answer.json()
    assert (answer.status_code, body["code"]) == (422, "invalid_json")
    assert body["error"] == "The body is not valid UTF-8"
    assert body["detail"] == [{"type": "invalid_json", "loc": ["body"], "msg": "The body is not valid UTF-8"}]


@pytest.mark.parametrize(
    ("content", "says"),
    [("[" * 100_000, "nested too deeply"), ('{"rank": ' + "9" * 6000 + "}", "a number with too many digits")],
)
def test_a_body_that_no_parser_takes_is_422_and_says_why(
    signal_router: APIRouter, parts: HttpParts, content: str, says: str
) -> None:
    unlimited = build_http(Settings(), parts, routers=[(signal_router, "signal")])
    with TestClient(unlimited, headers={"X-API-Key": parts.keys.generate_key("ada")}) as client:
        answer = client.post("/runs", content=content)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_json")
    assert says in answer.json()["error"]


@pytest.mark.parametrize("path", ["/nowhere", "/runs/1/nowhere", "/v1/chat/nowhere"])
def test_an_unknown_path_is_404_and_names_the_documentation(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "/docs" in answer.text
    assert "unknown_path" in answer.text


@pytest.mark.parametrize("path", ["/runs", "/v1/chat/completions"])
def test_a_wrong_method_is_405_and_names_the_right_one(client: TestClient, path: str) -> None:
    answer = client.delete(path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST"
    assert "it takes POST" in answer.text


def test_a_stream_that_breaks_is_cut_and_not_ended(client: TestClient) -> None:
    raising = TestClient(client.app, headers=dict(client.headers))
    with pytest.raises(RuntimeError, match="broken in the middle"):
        raising.get("/runs/1/stream")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(3, True), ("short", True), (None, True), ("x" * 101, False), ([1], False), ({"a": 1}, False), (True, True)],
)
def test_only_short_plain_input_is_repeated(value: object, shown: bool) -> None:
    error = edge.of_validation([{"type": "t", "loc": ("body", "x"), "msg": "m", "input": value}])
    faults = error.data["errors"]
    assert isinstance(faults, list)
    assert ("input" in faults[0]) is shown


def test_numbers_that_json_does_not_know_are_repeated_as_text() -> None:
    for value in (math.nan, math.inf, -math.inf):
        error = edge.of_validation([{"type": "t", "loc": ("body", "x"), "msg": "m", "input": value}])
        faults = error.data["errors"]
        assert isinstance(faults, list)
        assert faults[0]["input"] == str(value)


async def test_a_client_that_leaves_while_it_sends_is_nobodys_fault(app: FastAPI, parts: HttpParts) -> None:
    sent: list[Message] = []
    key = parts.keys.generate_key("ada").encode()

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "method": "POST", "path": "/runs/1/raw", "query_string": b"", "root_path": ""}
    await app({**scope, "headers": [(b"x-api-key", key)]}, receive, send)
    assert sent == []
    assert b'status="499"' in parts.metrics.render()[0]
