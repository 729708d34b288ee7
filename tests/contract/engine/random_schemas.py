"""Random JSON schemas of broad coverage, each with a short instance that the generator knows."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

Made = tuple[dict[str, Any], Any]
"""A schema and an instance of it, about as short as there is one."""

NAMES: Final = (
    "id",
    "name",
    "größe",
    "日本",
    "a b",
    'quo"te',
    "x-1",
    "tags",
    "naïve",
    "n",
    "emoji 🙂",
    "back\\slash",
    "child",
)
PATTERNS: Final = (
    ("^[a-z]{2,4}$", "aa"),
    ("^[A-Z][0-9]{3}$", "A000"),
    ("^(red|green|blue)-[0-9]+$", "red-0"),
    ("^[0-9]{4}-[0-9]{2}$", "0000-00"),
    ("^#[0-9a-f]{6}$", "#000000"),
    ("^a*b+$", "b"),
)
FORMATS: Final = (
    ("date", "2000-01-01"),
    ("date-time", "2000-01-01T00:00:00Z"),
    ("uuid", "00000000-0000-0000-0000-000000000000"),
    ("ipv4", "1.1.1.1"),
    ("email", "a@b"),
)
RECURSIVE: Final[dict[str, Made]] = {
    "list": (
        {
            "anyOf": [
                {"type": "null"},
                {
                    "type": "array",
                    "prefixItems": [{"type": "integer"}, {"$ref": "#/$defs/list"}],
                    "minItems": 2,
                    "items": False,
                },
            ]
        },
        None,
    ),
    "tree": (
        {
            "type": "object",
            "properties": {
                "left": {"$ref": "#/$defs/tree"},
                "right": {"$ref": "#/$defs/tree"},
                "v": {"type": "integer"},
            },
            "required": ["v"],
            "additionalProperties": False,
        },
        {"v": 0},
    ),
    "any": (
        {
            "type": ["object", "array", "string", "number", "boolean", "null"],
            "items": {"$ref": "#/$defs/any"},
            "additionalProperties": {"$ref": "#/$defs/any"},
        },
        0,
    ),
}


@dataclass(frozen=True)
class Case:
    schema: dict[str, Any]
    instance: Any

    @property
    def text(self) -> str:
        return json.dumps(self.schema, ensure_ascii=False)

    @property
    def short(self) -> str:
        return json.dumps(self.instance, ensure_ascii=False, separators=(",", ":"))


def make(seed: int) -> Case:
    """Make the schema of a seed."""
    rng = random.Random(seed)
    makers: list[Callable[[random.Random, int], Made]] = [_object, _object, _array, _any_of, _ref, _all_of, _scalar]
    schema, instance = rng.choice(makers)(rng, 2)
    schema = {"$defs": {name: made[0] for name, made in RECURSIVE.items()}, **schema}
    return Case(schema, instance)


def _value(rng: random.Random, depth: int) -> Made:
    makers: list[Callable[[random.Random, int], Made]] = [_scalar, _scalar, _scalar]
    if depth > 0:
        makers += [_object, _array, _any_of, _ref]
    return rng.choice(makers)(rng, depth - 1)


def _scalar(rng: random.Random, depth: int) -> Made:
    del depth
    makers = (_string, _pattern, _format, _integer, _multiple, _number, _enum, _const, _plain)
    return rng.choice(makers)(rng)


def _string(rng: random.Random) -> Made:
    least = rng.choice((0, 0, 1, 3, 9))
    schema: dict[str, Any] = {"type": "string"}
    if least:
        schema["minLength"] = least
    if rng.random() < 0.5:
        schema["maxLength"] = least + rng.randrange(6)
    return schema, "a" * least


def _pattern(rng: random.Random) -> Made:
    pattern, shortest = rng.choice(PATTERNS)
    return {"type": "string", "pattern": pattern}, shortest


def _format(rng: random.Random) -> Made:
    name, shortest = rng.choice(FORMATS)
    return {"type": "string", "format": name}, shortest


def _integer(rng: random.Random) -> Made:
    low = rng.choice((None, -1000, 0, 7, 1234))
    high = None if rng.random() < 0.5 else (low or 0) + rng.choice((1, 5, 100))
    schema: dict[str, Any] = {"type": "integer"}
    if low is not None:
        schema["minimum"] = low
    if high is not None:
        schema[rng.choice(("maximum", "exclusiveMaximum"))] = high
    top = high if "maximum" in schema or high is None else high - 1
    inside = [n for n in (0, 7, low, top) if n is not None and (low is None or n >= low) and (top is None or n <= top)]
    return schema, min(inside, key=lambda n: len(str(n)))


def _multiple(rng: random.Random) -> Made:
    step = rng.choice((2, 5, 25))
    return {"type": "integer", "multipleOf": step, "minimum": 1}, step


def _number(rng: random.Random) -> Made:
    low = rng.choice((None, 0, -2.5, 0.25))
    schema: dict[str, Any] = {"type": "number"}
    if low is not None:
        schema["minimum"] = low
        if rng.random() < 0.5:
            schema["maximum"] = low + 4
    return schema, 1 if low == 0.25 else 0


def _enum(rng: random.Random) -> Made:
    pool = ["red", "Blå", 1, 2.5, True, None, "a longer choice", "", "日本", {"k": [1]}, [], "re"]
    values = rng.sample(pool, rng.randrange(1, 5))
    return {"enum": values}, min(values, key=lambda one: len(json.dumps(one, ensure_ascii=False)))


def _const(rng: random.Random) -> Made:
    value = rng.choice(("fixed", 42, -0.5, False, None, {"a": [1, "é"]}, ["x", {}]))
    return {"const": value}, value


def _plain(rng: random.Random) -> Made:
    name, shortest = rng.choice((("boolean", True), ("null", None), ("string", ""), ("number", 0), ("integer", 0)))
    return {"type": name if name == "null" or rng.random() < 0.7 else [name, "null"]}, shortest


def _object(rng: random.Random, depth: int) -> Made:
    names = rng.sample(NAMES, rng.randrange(0, 5))
    made = {name: _value(rng, depth) for name in names}
    schema: dict[str, Any] = {"type": "object", "properties": {name: one[0] for name, one in made.items()}}
    required = [name for name in names if rng.random() < 0.6]
    if required:
        schema["required"] = required
    match rng.randrange(4):
        case 0:
            schema["additionalProperties"] = False
        case 1:
            schema["additionalProperties"] = _value(rng, 0)[0]
        case 2:
            schema["patternProperties"] = {"^p_": {"type": "integer"}}
            schema["additionalProperties"] = False
    return schema, {name: made[name][1] for name in names if name in required}


def _array(rng: random.Random, depth: int) -> Made:
    least = rng.randrange(0, 4)
    item, shortest = _value(rng, depth)
    schema: dict[str, Any] = {"type": "array", "items": item}
    first: list[Made] = []
    if rng.random() < 0.3:
        first = [_value(rng, depth) for _ in range(2)]
        schema["prefixItems"] = [one[0] for one in first]
    if least:
        schema["minItems"] = least
    if rng.random() < 0.5:
        schema["maxItems"] = least + rng.randrange(4)
    values = [one[1] for one in first] + [shortest] * 3
    return schema, values[:least]


def _any_of(rng: random.Random, depth: int) -> Made:
    made = [_value(rng, depth) for _ in range(rng.randrange(2, 4))]
    shortest = min((one[1] for one in made), key=lambda one: len(json.dumps(one, ensure_ascii=False)))
    return {"anyOf": [one[0] for one in made]}, shortest


def _ref(rng: random.Random, depth: int) -> Made:
    del depth
    name = rng.choice(sorted(RECURSIVE))
    return {"$ref": f"#/$defs/{name}"}, RECURSIVE[name][1]


def _all_of(rng: random.Random, depth: int) -> Made:
    left, right = _value(rng, depth), _value(rng, depth)
    schema = {
        "allOf": [
            {"type": "object", "properties": {"left": left[0]}, "required": ["left"]},
            {"type": "object", "properties": {"right": right[0]}, "required": ["right"]},
        ]
    }
    return schema, {"left": left[1], "right": right[1]}
