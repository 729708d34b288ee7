"""Forms are checked in bounded time, and nothing is fetched for them."""

import json
import time
from typing import Any

import pytest

from trainyard.core import errors
from trainyard.engine.types import Grammar
from trainyard.serving.backends.remote import forms

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "age": {"$ref": "#/$defs/age"}},
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"age": {"type": "integer", "minimum": 0}},
}
TAGGED = {"type": "object", "patternProperties": {"^x-": {"type": "integer"}}}


def fault(kind: Any, form: object, text: str) -> str | None:
    written = form if isinstance(form, str) else json.dumps(form)
    return forms.checker(Grammar(kind=kind, text=written), "response_format")(text)


@pytest.mark.parametrize(
    ("kind", "form", "text", "says"),
    [
        ("json_object", "", '{"a": 1}', None),
        ("json_object", "", "[1]", "JSON but not an object"),
        ("json_object", "", '{"a": NaN}', "NaN is not part of JSON"),
        ("json_object", "", '{"a": 1} and more', "not JSON"),
        ("json_object", "", "[" * 100_000, "not JSON"),
        ("json_schema", PERSON, '{"name": "Ann", "age": 3}', None),
        ("json_schema", PERSON, '{"name": "ann"}', "$.name: the text does not match '^[A-Z]'"),
        ("json_schema", PERSON, '{"name": "Ann", "age": -1}', "$.age: -1 is less than the minimum of 0"),
        ("json_schema", PERSON, "{}", "'name' is a required property"),
        ("json_schema", PERSON, '{"name": "Ann", "x": 1}', "Additional properties are not allowed"),
        ("json_schema", PERSON, "Ann", "not JSON"),
        ("json_schema", TAGGED, '{"x-a": 1, "y": "z"}', None),
        ("json_schema", TAGGED, '{"x-a": "no"}', "is not of type 'integer'"),
        ("json_schema", TAGGED, "[]", "is not of type 'object'"),
        ("json_schema", TAGGED | {"additionalProperties": False}, '{"x-a": 1}', None),
        ("json_schema", TAGGED | {"additionalProperties": False}, '{"x-a": 1, "y": 2}', "Additional properties"),
        ("json_schema", {"additionalProperties": False, "patternProperties": {r"\p{Lu}": {}}}, '{"Ä": 1}', None),
        ("json_schema", TAGGED | {"additionalProperties": {"type": "null"}}, '{"x-a": 1, "y": 2}', "$.y: 2 is not of"),
        ("json_schema", {"additionalProperties": False}, "[1]", None),
        ("json_schema", {"unevaluatedProperties": False}, '{"a": 1}', "Unevaluated properties are not allowed"),
        ("json_schema", {"uniqueItems": True}, '[1, true, "1", [1], {"a": 1}, null, 0, false]', None),
        ("json_schema", {"uniqueItems": True}, '[{"a": [1]}, {"a": [1.0]}]', "has items that are equal"),
        ("json_schema", {"uniqueItems": True}, '"aa"', None),
        ("json_schema", {"uniqueItems": False}, "[1, 1]", None),
        ("json_schema", {"multipleOf": 0.1}, "1" + "0" * 400, "numbers that are too large to check"),
        ("json_schema", True, "1", None),
        ("json_schema", False, "1", "False schema does not allow 1"),
        ("json_schema", {"$ref": "#/$defs/gone"}, "1", "which is not in it"),
        ("json_schema", {"$ref": "#"}, "1", "too many steps"),
        ("regex", r"\d{3}-\d{4}", "555-1234", None),
        ("regex", r"\d{3}-\d{4}", "555-1234\n", "does not match"),
        ("regex", "a|b", "b", None),
        ("regex", "a|b", "ab", "does not match"),
        ("regex", ".*", "two\nlines", "does not match"),
    ],
)
def test_a_text_is_told_what_is_wrong_with_it(kind: str, form: object, text: str, says: str | None) -> None:
    found = fault(kind, form, text)
    assert found is None if says is None else says in str(found)


@pytest.mark.parametrize(
    ("kind", "form", "says"),
    [
        ("json_schema", "{", "not a JSON object"),
        ("json_schema", "3", "not a JSON object"),
        ("json_schema", {"type": "nonsense"}, "The schema is not valid"),
        ("json_schema", {"$ref": "http://192.0.2.1/secret.json"}, "nothing is fetched"),
        ("json_schema", {"items": {"$ref": "file:///etc/passwd"}}, "nothing is fetched"),
        ("json_schema", {"allOf": [{"$dynamicRef": "other.json#x"}]}, "nothing is fetched"),
        ("json_schema", {"type": "string", "pattern": "(?=a)b"}, "look-around and back-references"),
        ("json_schema", {"patternProperties": {"(?<=a)b": {}}}, "cannot be used"),
        (
            "json_schema",
            {"unevaluatedProperties": False, "anyOf": [{"patternProperties": {"a": {}}}]},
            "unevaluatedProperties beside patternProperties",
        ),
        ("json_schema", {"enum": ["x" * forms.MAX_SCHEMA_BYTES]}, "longer than 65536 bytes"),
        ("regex", r"(a)\1", "look-around and back-references"),
        ("lark", "start: x", "keeps no lark grammar; it can keep json_schema, json_object and regex"),
    ],
)
def test_a_form_that_cannot_be_checked_is_refused_before_anything_is_sent(kind: str, form: object, says: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        fault(kind, form, "{}")
    assert says in caught.value.message
    assert caught.value.param == "response_format"


def doubling(levels: int) -> dict[str, Any]:
    """A schema whose plain check takes 2 ** levels steps."""
    steps: dict[str, Any] = {f"s{level}": {"allOf": [{"$ref": f"#/$defs/s{level + 1}"}] * 2} for level in range(levels)}
    return {"$ref": "#/$defs/s0", "$defs": steps | {f"s{levels}": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("kind", "form", "text"),
    [
        ("json_schema", doubling(40), "1"),
        ("json_schema", {"type": "string", "pattern": "^(a+)+$"}, json.dumps("a" * 5000 + "!")),
        (
            "json_schema",
            {"patternProperties": {"^(a|a)*$": {}}, "additionalProperties": False},
            json.dumps({"a" * 40 + "!": 1}),
        ),
        (
            "json_schema",
            {"type": "array", "uniqueItems": True, "minItems": 30_000},
            json.dumps([{"a": item} for item in range(20_000)]),
        ),
        ("regex", "(a*)*b", "a" * 50_000),
    ],
)
def test_hostile_forms_take_bounded_time(kind: str, form: object, text: str) -> None:
    began = time.process_time()
    assert fault(kind, form, text) is not None
    assert time.process_time() - began < 5
