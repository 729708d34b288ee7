"""The generated reference leaves nothing of the HTTP interface without a meaning."""

import pytest

from scripts import reference
from trainyard import app


def test_every_field_and_parameter_of_the_http_interface_is_described() -> None:
    page = reference.http_page()  # raises Undocumented otherwise
    assert "| – |" not in page
    assert "HTTPValidationError" not in page


def test_the_routes_that_stream_name_their_events() -> None:
    paths = app.openapi_document()["paths"]
    streaming = {
        path: reference.kind_of(answers["text/event-stream"]["schema"])
        for path, item in paths.items()
        for operation in item.values()
        if "text/event-stream" in (answers := operation["responses"].get("200", {}).get("content", {}))
    }
    assert streaming == {
        "/runs/{run_id}/sample/stream": "TokenChunk",
        "/v1/chat/completions": "ChatChunk or OpenAIError",
        "/v1/completions": "CompletionResponse or OpenAIError",
        "/v1/stream": "StreamEvent or NativeError",
        "/exec": "RunBegun or OutputPiece or Output or ExecResponse or CodeError",
        "/v1/code/exec": "RunBegun or OutputPiece or Output or ExecResponse or CodeError",
    }


def test_every_route_but_those_without_a_key_documents_what_a_missing_key_is_answered() -> None:
    paths = app.openapi_document()["paths"]
    without = {path for path, item in paths.items() for one in item.values() if "401" not in one["responses"]}
    assert without == {"/", "/health", "/healthz", "/readyz", "/metrics"}


def test_a_field_without_a_description_is_named() -> None:
    with pytest.raises(reference.Undocumented, match=r"field Thing\.x"):
        reference.field_table("Thing", {"properties": {"x": {"type": "string"}}})


@pytest.mark.parametrize(
    ("schema", "required", "shown"),
    [
        ({"type": "string"}, True, "required"),
        ({"default": False}, False, "`false`"),
        ({"default": None}, False, "`null`"),
        ({"type": "string"}, False, "optional"),
    ],
)
def test_defaults_are_shown_as_json(schema: dict[str, object], required: bool, shown: str) -> None:
    assert reference.default_of(schema, required) == shown


@pytest.mark.parametrize(
    ("schema", "shown"),
    [
        ({"type": "integer", "minimum": 1.0, "maximum": 512.0}, "integer >= 1 <= 512"),
        ({"type": "number", "maximum": 0.5}, "number <= 0.5"),
        ({"type": "array", "items": {"$ref": "#/x/Turn"}, "minItems": 1}, "array of Turn items >= 1"),
        ({"anyOf": [{"enum": ["a", "b"]}, {"type": "null"}]}, "'a', 'b' or null"),
    ],
)
def test_types_are_shown_with_their_bounds(schema: dict[str, object], shown: str) -> None:
    assert reference.kind_of(schema) == shown
