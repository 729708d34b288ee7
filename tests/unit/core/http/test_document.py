"""What the OpenAPI document says about errors and streams, held against what the server answers."""

from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from trainyard.core import errors
from trainyard.core.http import dialects, error_bodies
from trainyard.core.http.dialects import Dialect

CHAT, LIMITED = "/v1/chat/completions", "/v1/limited"
THING = "/v1/things/fail/{kind}"


@pytest.fixture
def document(stranger: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = stranger.get("/openapi.json").json()
    return found


@pytest.mark.parametrize(
    ("method", "path", "body", "statuses"),
    [
        ("get", "/health", None, ["200"]),
        ("get", "/readyz", None, ["200", "503"]),
        ("post", "/runs", "SignalError", ["200", "401", "403", "413", "422", "503"]),
        ("get", "/runs/{run_id}/stream", "SignalError", ["200", "401", "403", "404", "503"]),
        ("post", "/runs/{run_id}/raw", "SignalError", ["200", "401", "403", "404", "409", "503"]),
        ("get", THING, "NativeError", ["200", "401", "403", "404", "503"]),
        ("post", CHAT, "OpenAIError", ["200", "400", "401", "403", "404", "413", "503"]),
    ],
)
def test_a_route_documents_the_errors_that_it_can_answer_in_the_shape_of_its_dialect(
    document: dict[str, Any], method: str, path: str, body: str | None, statuses: list[str]
) -> None:
    responses = document["paths"][path][method]["responses"]
    assert list(responses) == statuses
    for status in statuses[1:] if body else ():
        schema = responses[status]["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{body}"}
        assert responses[status]["description"]


def test_waiting_times_are_documented_where_waiting_helps(document: dict[str, Any]) -> None:
    responses = document["paths"]["/runs"]["post"]["responses"]
    assert [status for status, answer in responses.items() if "Retry-After" in answer.get("headers", {})] == ["503"]


def test_a_hot_route_documents_the_headers_of_what_it_does(document: dict[str, Any]) -> None:
    chat, limited = (document["paths"][path]["post"] for path in (CHAT, LIMITED))
    assert [one["name"] for one in chat["parameters"]] == ["X-Request-ID"]
    assert list(chat["responses"]["200"]["headers"]) == ["X-Request-ID"]
    assert [one["name"] for one in limited["parameters"]] == ["X-Request-ID", "Idempotency-Key", "Cache-Control"]
    success = set(limited["responses"]["200"]["headers"])
    assert success > {"X-Request-ID", "x-trainyard-cache", "Idempotent-Replayed", "RateLimit", "RateLimit-Policy"}
    assert {f"x-ratelimit-{fact}-tokens" for fact in ("limit", "remaining", "reset")} < success
    assert set(limited["responses"]["402"]["headers"]) == {"Retry-After", "RateLimit", "RateLimit-Policy"}
    assert "x-ratelimit-reset-requests" in limited["responses"]["429"]["headers"]
    assert set(limited["responses"]["401"]["headers"]) == {"WWW-Authenticate"}


def test_a_route_that_only_streams_documents_no_other_answer(document: dict[str, Any]) -> None:
    assert list(document["paths"][LIMITED]["post"]["responses"]["200"]["content"]) == ["text/event-stream"]


def test_a_route_that_can_stream_documents_its_events_beside_its_answer(document: dict[str, Any]) -> None:
    content = document["paths"][CHAT]["post"]["responses"]["200"]["content"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/ChatAnswer"}
    kinds = [one["$ref"].rsplit("/", 1)[-1] for one in content["text/event-stream"]["schema"]["anyOf"]]
    assert kinds == ["ChatEvent", "OpenAIError"]
    assert document["components"]["schemas"]["ChatEvent"]["required"] == ["piece"]


def test_shapes_that_no_answer_has_are_not_in_the_document(document: dict[str, Any]) -> None:
    assert not {"HTTPValidationError", "ValidationError"} & set(document["components"]["schemas"])
    assert "HTTPValidationError" not in str(document)


def test_every_field_of_an_error_is_described() -> None:
    fields = [field for schema in error_bodies.schemas().values() for field in schema["properties"].values()]
    assert len(fields) > 10
    assert all(field.get("description") for field in fields)


@pytest.mark.parametrize("dialect", ["native", "signal", "openai"])
@pytest.mark.parametrize(
    "error",
    [
        errors.NotFound("no such run"),
        errors.InvalidRequest("messages[2].content: too long", param="messages[2].content"),
        errors.Conflict("nothing to apply", code="no_gradients", data={"step": 3}),
        errors.InvalidRequest(
            "rank: too large",
            param="rank",
            data={dialects.FIELD_ERRORS: [{"type": "t", "loc": ["body", "rank"], "msg": "too large", "input": 9}]},
        ),
        errors.TrainyardError("a secret"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_is_rendered_has_the_documented_shape(error: errors.TrainyardError, dialect: Dialect) -> None:
    body = dialects.render(error, dialect, "req_1").body
    read = msgspec.convert(body, error_bodies.BODY_OF[dialect])  # strict: no unknown, no missing field
    assert msgspec.to_builtins(read) == body


def test_classes_of_one_status_share_an_answer_that_says_both() -> None:
    described = error_bodies.responses("openai", errors.NotFound, errors.UnknownModel, errors.NotFound)
    assert list(described) == [404]
    assert described[404]["description"] == f"{errors.NotFound().message} Or: {errors.UnknownModel().message}"


@pytest.mark.parametrize(("dialect", "status"), [("native", 422), ("signal", 422), ("openai", 400)])
def test_the_dialect_decides_the_documented_status(dialect: Dialect, status: int) -> None:
    assert list(error_bodies.responses(dialect, errors.InvalidRequest)) == [status]
