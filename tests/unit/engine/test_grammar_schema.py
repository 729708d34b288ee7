"""What is drawn tighter in a schema, what is left as it is, and what is refused."""

import json
import random
from typing import Any

import llguidance
import pytest

from tests.contract.engine import random_schemas
from trainyard.core import errors
from trainyard.engine import grammar_schema, grammar_text
from trainyard.engine.grammar_schema import ANY, SAFE
from trainyard.engine.types import Grammar

REF = {"$ref": f"#/$defs/{ANY}"}
BOUNDS = {"minimum": -SAFE, "maximum": SAFE}
INTEGER = {"type": "integer"}


def tightened(schema: dict[str, Any]) -> dict[str, Any]:
    out = grammar_schema.tightened(schema)
    assert out["$defs"].pop(ANY)
    return out if out["$defs"] else {key: value for key, value in out.items() if key != "$defs"}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, REF),
        ({"title": "x", "description": "y"}, {"title": "x", "description": "y", **REF}),
        (INTEGER, {**INTEGER, **BOUNDS}),
        ({"type": ["number", "null"]}, {"type": ["number", "null"], **BOUNDS}),
        ({"type": "integer", "minimum": 5}, {"type": "integer", "minimum": 5, "maximum": SAFE}),
        ({"type": "number", "exclusiveMaximum": 5}, {"type": "number", "exclusiveMaximum": 5, "minimum": -SAFE}),
        ({"type": "integer", "minimum": 2**60}, {"type": "integer", "minimum": 2**60}),
        ({"type": "integer", "enum": [2**60]}, {"type": "integer", "enum": [2**60]}),
        ({"type": "string"}, {"type": "string"}),
        ({"type": "array"}, {"type": "array", "items": REF}),
        ({"type": "array", "items": True}, {"type": "array", "items": REF}),
        ({"type": "array", "items": INTEGER}, {"type": "array", "items": {**INTEGER, **BOUNDS}}),
        ({"type": "object"}, {"type": "object", "additionalProperties": REF}),
        (
            {"type": "object", "properties": {"a": INTEGER}},
            {"type": "object", "properties": {"a": {**INTEGER, **BOUNDS}}, "additionalProperties": False},
        ),
        (
            {"type": "object", "properties": {"a": INTEGER}, "required": ["b"]},
            {
                "type": "object",
                "properties": {"a": {**INTEGER, **BOUNDS}},
                "required": ["b"],
                "additionalProperties": REF,
            },
        ),
        (
            {"type": "object", "properties": {"a": {"const": {}}}, "additionalProperties": True},
            {"type": "object", "properties": {"a": {"const": {}}}, "additionalProperties": REF},
        ),
        ({"anyOf": [INTEGER, {"type": "null"}]}, {"anyOf": [{**INTEGER, **BOUNDS}, {"type": "null"}]}),
        ({"allOf": [INTEGER]}, {"allOf": [{**INTEGER, **BOUNDS}]}),
        ({"allOf": [INTEGER, {"minimum": 2**60}]}, {"allOf": [INTEGER, {"minimum": 2**60}]}),
        ({"anyOf": [{"required": ["a"]}], "type": "object"}, {"anyOf": [{"required": ["a"]}], "type": "object"}),
        (
            {"$ref": "#/$defs/n", "$defs": {"n": INTEGER}},
            {"$ref": "#/$defs/n", "$defs": {"n": {**INTEGER, **BOUNDS}}},
        ),
        (  # used beside another schema for the same value: left alone
            {"allOf": [{"$ref": "#/$defs/n"}, {"minimum": 2**60}], "$defs": {"n": INTEGER}},
            {"allOf": [{"$ref": "#/$defs/n"}, {"minimum": 2**60}], "$defs": {"n": INTEGER}},
        ),
    ],
)
def test_a_schema_is_drawn_tighter_where_it_alone_describes_a_value(
    schema: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert tightened(schema) == expected


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, {"type": "integer", **BOUNDS}),
        ({"items": {"exclusiveMaximum": 1e300}}, {"items": {"maximum": SAFE}}),
        ({"exclusiveMinimum": -1e30, "minimum": 3}, {"minimum": 3}),
        ({"exclusiveMinimum": 0, "maximum": 0.5}, {"minimum": 0.0005, "maximum": 0.5}),
        ({"minimum": -0.5, "exclusiveMaximum": 0}, {"minimum": -0.5, "maximum": -0.0005}),
        ({"exclusiveMinimum": 0, "maximum": 1}, None),
        ({"type": "integer", "exclusiveMinimum": 0, "maximum": 0.5}, None),
        ({"exclusiveMinimum": 0.25, "exclusiveMaximum": 0.75}, None),
        ({"const": {"minimum": -5, "maximum": 5}}, None),
        ({"properties": {"minimum": {"minimum": True}}}, None),
    ],
    ids=str,
)
def test_bounds_are_brought_to_where_they_are_kept_exactly(
    schema: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    assert grammar_schema.bounded(schema) == (expected or schema)


@pytest.mark.parametrize(
    ("schema", "wrong", "right"),
    [
        ({"type": "number", "exclusiveMinimum": 0, "maximum": 0.5}, "0", "0.25"),
        ({"type": "number", "exclusiveMaximum": 0, "minimum": -0.5}, "-0", "-0.25"),
        ({"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 1.001}, "1", "1.0005"),
    ],
    ids=str,
)
def test_an_end_that_does_not_belong_to_a_short_range_is_not_let_through(
    schema: dict[str, Any], wrong: str, right: str
) -> None:
    source = grammar_text.source_of(Grammar(kind="json_schema", text=json.dumps(schema)))
    for text, is_good in ((wrong, False), (right, True)):
        matcher = grammar_text.compiled(llguidance.LLTokenizer("byte"), source)
        assert (matcher.try_consume_tokens(list(text.encode())) == len(text) and matcher.is_accepting()) is is_good


def test_the_schemas_inside_a_lark_grammar_are_bounded_too() -> None:
    text = 'start: "%json {" | %json\n{"type":"integer","minimum":-9223372036854775808} | %json {"const":"%json 1"}\n'
    source = grammar_text.source_of(Grammar(kind="lark", text=text))
    assert "-9223372036854775808" not in source
    assert str(-SAFE) in source
    assert source.count("%json") == 4


@pytest.mark.parametrize("name", ["date", "time", "date-time"])
def test_clocks_get_a_pattern_unless_they_have_one(name: str) -> None:
    assert "pattern" in tightened({"type": "string", "format": name})
    assert tightened({"type": "string", "format": name, "pattern": "x"})["pattern"] == "x"
    assert "pattern" not in tightened({"const": "2024-02-29", "format": name})


def test_a_schema_whose_author_uses_the_same_name_is_left_alone() -> None:
    schema = {"type": "object", "$defs": {ANY: INTEGER}}
    assert grammar_schema.tightened(schema) == schema


@pytest.mark.parametrize(
    ("schema", "is_refused"),
    [
        ({"type": "object", "minProperties": 1}, False),
        ({"type": "object", "minProperties": 2, "required": ["a", "b"]}, False),
        ({"type": "object", "minProperties": 2, "required": ["a", "a"]}, True),
        ({"properties": {"a": {"minProperties": 3}}}, True),
    ],
)
def test_names_that_cannot_be_counted_are_refused(schema: dict[str, Any], is_refused: bool) -> None:
    assert (grammar_schema.refusal(schema) is not None) is is_refused


def test_needed_names_are_found_anywhere() -> None:
    schema = {"required": ["b"], "properties": {"x": {"anyOf": [{"required": ["a", "b", 7]}]}}}
    assert grammar_schema.required_names(schema) == ["a", "b"]


ODD: tuple[Any, ...] = (
    None,
    0,
    -1,
    1.5,
    "x",
    [],
    {},
    [1],
    [[]],
    {"a": 1},
    True,
    2**70,
    ["a", {}],
    {"type": {}},
    "object",
    {"$ref": 5},
)
KEYWORDS = ("type", "properties", "required", "items", "$defs", "anyOf", "allOf", "$ref", "minimum", "format", "enum")


def spoilt(seed: int) -> str:
    """Put an odd value somewhere into a random schema."""
    rng = random.Random(seed)
    schema = json.loads(random_schemas.make(seed).text)
    node: Any = schema
    while isinstance(node, dict | list) and node and rng.random() < 0.8:
        place = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if not isinstance(node[place], dict | list) or not node[place]:
            break
        node = node[place]
    if isinstance(node, dict):
        node[rng.choice(KEYWORDS)] = rng.choice(ODD)
    elif isinstance(node, list):
        node[rng.randrange(len(node))] = rng.choice(ODD)
    return json.dumps(schema)


def test_a_malformed_schema_is_compiled_or_refused_and_never_a_fault() -> None:
    refused = 0
    for seed in range(600):
        grammar = Grammar(kind="json_schema", text=spoilt(seed))
        try:
            grammar_text.validate_grammar(grammar)
            grammar_text.needed_names(grammar)
        except errors.InvalidRequest:
            refused += 1
    assert 100 < refused < 600
