"""Holds the HTTP interface against the one that was promised: `docs/reference/openapi.json`.

What clients send must stay accepted and what they read must stay there; anything may be added.
`python -m scripts.api_stability` lists what would break them; `--accept` takes the present interface as the promise.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PROMISED = Path(__file__).resolve().parents[1] / "docs" / "reference" / "openapi.json"

_METHODS = ("get", "put", "post", "delete", "patch")
_UNIONS = ("anyOf", "oneOf", "allOf")

Document = Mapping[str, Any]


def breaks(promised: Document, present: Document) -> list[str]:
    """List in one line each what a client of the promised interface would miss in the present one."""
    before, after = set(_promises(promised)), set(_promises(present))
    lost = [f"gone: {fact}" for fact in before - after]
    asked = set(_demands(present)) - set(_demands(promised))
    new = [f"newly required: {demand}" for demand in asked if f"operation {_operation_of(demand)}" in before]
    return sorted(lost + new)


def _operation_of(fact: str) -> str:
    """Cut path and method out of a fact, which begins with its kind."""
    return " ".join(fact.split(" ")[1:3])


def _promises(document: Document) -> Iterator[str]:
    """Name everything that clients may rely on."""
    for path, method, operation in _operations(document):
        where = f"{path} {method}"
        yield f"operation {where}"
        for parameter in operation.get("parameters", ()):
            yield f"parameter {where} {parameter['in']} {parameter['name']}"
        for kind, schema in _contents(operation.get("requestBody", {})):
            yield from (f"request {where} {kind} {step}" for step in _places(document, schema))
        for status, answer in operation["responses"].items():
            yield f"answer {where} {status}"
            for kind, schema in _contents(answer):
                places = _places(document, schema, values=False)
                yield from (f"answer {where} {status} {kind} {place}" for place in places)


def _demands(document: Document) -> Iterator[str]:
    """Name everything that clients have to send."""
    for path, method, operation in _operations(document):
        where = f"{path} {method}"
        for parameter in operation.get("parameters", ()):
            if parameter.get("required"):
                yield f"parameter {where} {parameter['in']} {parameter['name']}"
        for kind, schema in _contents(operation.get("requestBody", {})):
            yield from (f"request {where} {kind} {step}" for step in _required(document, schema))


def _operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                yield path, method, item[method]


def _contents(holder: Document) -> Iterator[tuple[str, Document]]:
    for kind, content in holder.get("content", {}).items():
        yield kind, content.get("schema", {})


def _places(document: Document, schema: Document, at: str = "$", *, values: bool = True) -> Iterator[str]:
    """Name the fields of a body by their path, and where clients choose among values, the values."""
    for place, found in _walk(document, schema, at, ()):
        yield place
        if values:
            yield from (f"{place} = {value!r}" for value in found.get("enum", ()))


def _required(document: Document, schema: Document) -> Iterator[str]:
    for place, found in _walk(document, schema, "$", ()):
        yield from (f"{place}.{name}" for name in found.get("required", ()))


def _walk(document: Document, schema: Document, at: str, inside: tuple[str, ...]) -> Iterator[tuple[str, Document]]:
    reference = schema.get("$ref")
    if reference is not None:
        if reference not in inside:
            yield from _walk(document, _resolved(document, reference), at, (*inside, reference))
        return
    yield at, schema
    for name, inner in schema.get("properties", {}).items():
        yield from _walk(document, inner, f"{at}.{name}", inside)
    for kind in _UNIONS:
        for inner in schema.get(kind, ()):
            yield from _walk(document, inner, at, inside)
    items = schema.get("items")
    if isinstance(items, Mapping):
        yield from _walk(document, items, f"{at}[]", inside)


def _resolved(document: Document, reference: str) -> Document:
    found: Any = document
    for step in reference.removeprefix("#/").split("/"):
        found = found[step]
    return found  # type: ignore[no-any-return]  # JSON


def main() -> int:
    """Compare, or accept; 1 when something would break."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--accept", action="store_true", help="take the present interface as the new promise")
    from trainyard.app import openapi_document

    present = openapi_document()
    if parser.parse_args().accept:
        PROMISED.write_text(json.dumps(present, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
        return 0
    found = breaks(json.loads(PROMISED.read_text(encoding="utf-8")), present)
    print("\n".join(found) or "nothing that was promised is gone")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
