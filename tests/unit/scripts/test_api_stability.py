"""What counts as breaking the promised interface, and that the present one keeps it."""

import copy
import json
from typing import Any

import pytest

from scripts import api_stability
from trainyard import app

PROMISED: dict[str, Any] = {
    "paths": {
        "/things": {
            "post": {
                "parameters": [{"in": "query", "name": "page", "required": False}],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Ask"}}}},
                "responses": {
                    "200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
                    "429": {"description": "later"},
                },
            }
        }
    },
    "components": {
        "schemas": {
            "Ask": {"properties": {"kind": {"enum": ["a", "b"]}, "name": {}}, "required": ["name"]},
            "Thing": {
                "properties": {
                    "id": {"type": "string"},
                    "parts": {"items": {"anyOf": [{"$ref": "#/components/schemas/Thing"}, {"type": "null"}]}},
                }
            },
        }
    },
}


def changed(path: str, value: object) -> dict[str, Any]:
    """Set, or with None delete, what a path of keys leads to."""
    document = copy.deepcopy(PROMISED)
    *steps, last = path.split(" ")
    target: Any = document
    for step in steps:
        target = target[step]
    if value is None:
        del target[last]
    else:
        target[last] = value
    return document


POST = "paths /things post"
SCHEMAS = "components schemas"


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (POST, None, "gone: operation /things post"),
        (f"{POST} parameters", [], "gone: parameter /things post query page"),
        (f"{POST} responses 429", None, "gone: answer /things post 429"),
        (f"{SCHEMAS} Thing properties id", None, "gone: answer /things post 200 application/json $.id"),
        (f"{SCHEMAS} Ask properties name", None, "gone: request /things post application/json $.name"),
        (f"{SCHEMAS} Ask properties kind enum", ["a"], "gone: request /things post application/json $.kind = 'b'"),
        (f"{SCHEMAS} Ask required", ["name", "kind"], "newly required: request /things post application/json $.kind"),
        (f"{POST} parameters", [{"in": "query", "name": "page", "required": True}], "newly required: parameter"),
    ],
)
def test_what_a_client_would_miss_is_named(path: str, value: object, said: str) -> None:
    found = api_stability.breaks(PROMISED, changed(path, value))
    assert any(line.startswith(said) for line in found), found


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("paths /more", {"get": {"responses": {"200": {}}}}),
        (f"{SCHEMAS} Thing properties new", {"type": "integer"}),
        (f"{SCHEMAS} Ask properties new", {"type": "integer"}),
        (f"{SCHEMAS} Ask properties kind enum", ["a", "b", "c"]),
        (f"{SCHEMAS} Ask required", []),
        (f"{POST} responses 402", {"description": "pay"}),
    ],
)
def test_what_is_added_or_no_longer_asked_breaks_nobody(path: str, value: object) -> None:
    assert api_stability.breaks(PROMISED, changed(path, value)) == []


def test_the_present_interface_keeps_what_was_promised() -> None:
    promised = json.loads(api_stability.PROMISED.read_text(encoding="utf-8"))
    assert api_stability.breaks(promised, app.openapi_document()) == []
