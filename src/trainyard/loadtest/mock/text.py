"""The text that the mock says: words of a fixed list, chosen by what was asked; one word is one token."""

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

WORDS = tuple(
    "amber anchor barge beacon birch bridge canal cargo cedar chart coal copper crane delta dock ember ferry "  # noqa: SIM905 - readable
    "flint gate grain harbour iron lantern ledger maple mast oar pier quay rail salt yard".split()
)
DIMENSIONS = 8

_STRIDE = 7  # coprime to the number of words, so that a text comes round after all of them


@dataclass(frozen=True, slots=True)
class Said:
    """One answer.

    Attributes:
        tokens: Its pieces; together they are the text.
        finish: Why it ended.
    """

    tokens: Sequence[str]
    finish: Literal["stop", "length"]

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.tokens)


def say(prompt: str, wanted: int, limit: int | None, stop: Sequence[str], salt: int) -> Said:
    """Answer a prompt.

    Args:
        prompt: Decides about the words.
        wanted: Words that it would say.
        limit: Most tokens; None = no limit.
        stop: Ends before the first of these.
        salt: Seed and number of the choice, so that choices differ.
    """
    count = wanted if limit is None else min(wanted, limit)
    at = zlib.crc32(prompt.encode("utf-8", "surrogatepass")) + salt
    tokens = [WORDS[(at + _STRIDE * number) % len(WORDS)] for number in range(count)]
    tokens[1:] = [f" {word}" for word in tokens[1:]]
    return cut(tokens, "length" if count < wanted else "stop", stop)


def say_text(text: str, limit: int | None, stop: Sequence[str]) -> Said:
    """Say a given text, four characters to the token."""
    tokens = [text[at : at + 4] for at in range(0, len(text), 4)]
    if limit is not None and len(tokens) > limit:
        return cut(tokens[:limit], "length", stop)
    return cut(tokens, "stop", stop)


def cut(tokens: Sequence[str], finish: Literal["stop", "length"], stop: Sequence[str]) -> Said:
    """End before the first stop string."""
    if not stop:
        return Said(tokens, finish)
    text = "".join(tokens)
    found = [at for one in stop if (at := text.find(one)) >= 0]
    if not found:
        return Said(tokens, finish)
    left, kept = min(found), []
    for token in tokens:
        if left <= 0:
            break
        kept.append(token[:left])
        left -= len(token)
    return Said(kept, "stop")


def count(text: str) -> int:
    """Count the tokens of a prompt: its words."""
    return len(text.split())


def logprob(number: int) -> float:
    """Give token `number` of an answer its log-probability: -0.1, -0.2, …, -0.5 and again."""
    return -0.1 * (number % 5 + 1)


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Embed a text; its length is not 1."""
    at = zlib.crc32(text.encode("utf-8", "surrogatepass"))
    return [round(2 * math.sin(at % 1000 + number), 6) for number in range(dimensions)]


def instance(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> Any:
    """Make a small value that keeps a JSON schema of the common keywords: types, enums, objects, arrays, bounds."""
    root = schema if root is None else root
    if "$ref" in schema:
        return instance(_resolved(schema["$ref"], root), root)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return instance(schema[key][0], root)
    kind = schema.get("type", "object")
    return _of_kind(kind if isinstance(kind, str) else kind[0], schema, root)


def _of_kind(kind: str, schema: Mapping[str, Any], root: Mapping[str, Any]) -> Any:
    if kind == "object":
        wanted = schema.get("required", ())
        return {name: instance(schema.get("properties", {}).get(name, {"type": "null"}), root) for name in wanted}
    if kind == "array":
        return [instance(schema.get("items", {"type": "null"}), root) for _ in range(schema.get("minItems", 0))]
    if kind in ("integer", "number"):
        return max(schema.get("minimum", 0), schema.get("exclusiveMinimum", -1) + 1)
    return {"string": "x" * max(1, schema.get("minLength", 1)), "boolean": True}.get(kind)


def _resolved(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Any = root
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return dict(found)


def shown(value: object) -> str:
    """Write a value as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
