"""The OpenAPI document as a judge of answers, and as a source of requests that are wrong in one place."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

METHODS = ("get", "put", "post", "delete", "patch")
_AT = "urn:document"


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    Attributes:
        method: In lower case.
        path: Template.
        described: What the document says about it.
    """

    method: str
    path: str
    described: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"{self.method.upper()} {self.path}"

    @property
    def statuses(self) -> set[int]:
        return {int(status) for status in self.described["responses"]}

    @property
    def needs_key(self) -> bool:
        return bool(self.described.get("security"))

    @property
    def path_names(self) -> list[str]:
        return [one["name"] for one in self.described.get("parameters", ()) if one["in"] == "path"]

    @property
    def query(self) -> dict[str, Any]:
        return {one["name"]: one["schema"] for one in self.described.get("parameters", ()) if one["in"] == "query"}

    @property
    def has_body(self) -> bool:
        return "requestBody" in self.described


class Document:
    """What `/openapi.json` says."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.content = content
        made: Registry[Any] = Registry()
        self._registry = made.with_resource(_AT, DRAFT202012.create_resource(content))

    def operations(self) -> list[Operation]:
        paths = self.content["paths"].items()
        return [Operation(method, path, item[method]) for path, item in paths for method in METHODS if method in item]

    def faults(self, operation: Operation, status: int, content_type: str, body: Any) -> list[str]:
        """Hold an answer against the document; everything that it does not allow."""
        described = operation.described["responses"].get(str(status))
        if described is None:
            return [f"{status} is not among {sorted(operation.statuses)}"]
        media = content_type.split(";")[0]
        if media not in described.get("content", {}):
            return [f"{media} is not among {sorted(described.get('content', {}))}"]
        if media not in ("application/json", "text/event-stream"):
            return []
        steps = ("paths", operation.path, operation.method, "responses", str(status), "content", media, "schema")
        pointer = "/".join(step.replace("~", "~0").replace("/", "~1") for step in steps)
        validator = Draft202012Validator({"$ref": f"{_AT}#/{pointer}"}, registry=self._registry)
        values = events_of(body) if media == "text/event-stream" else [body]
        return [f"{error.json_path}: {error.message[:300]}" for one in values for error in validator.iter_errors(one)]

    def body_fields(self, operation: Operation) -> dict[str, Any]:
        """Give the schemas of a body's fields."""
        schema = operation.described["requestBody"]["content"]["application/json"]["schema"]
        found: dict[str, Any] = next(one for one in self._forms(schema) if "properties" in one)["properties"]
        return found

    def wrong_values(self, schema: Mapping[str, Any]) -> Iterator[Any]:
        """Give values that a field does not take: of another type, and just beyond each bound."""
        forms = list(self._forms(schema))
        if any(not (form.keys() & {"type", "enum", "const"}) for form in forms):
            return
        types = {form.get("type", "string") for form in forms}
        yield "text" if types <= {"object", "null"} else {"no": "field"}
        if "boolean" not in types:
            yield True
        for form in forms:
            yield from (value for value in _beyond(form) if not self._is_taken(value, forms))

    def _is_taken(self, value: Any, forms: list[Mapping[str, Any]]) -> bool:
        return any(Draft202012Validator(form, registry=self._registry).is_valid(value) for form in forms)

    def _forms(self, schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        if "$ref" in schema:
            found: Any = self.content
            for step in schema["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            yield from self._forms(found)
        elif "anyOf" in schema or "oneOf" in schema:
            for form in schema.get("anyOf", schema.get("oneOf", ())):
                yield from self._forms(form)
        else:
            yield schema


def events_of(text: str) -> list[Any]:
    """Read the data of server-sent events; the mark of the end is none."""
    said = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    return [json.loads(one) for one in said if one != "[DONE]"]


def _beyond(form: Mapping[str, Any]) -> Iterator[Any]:
    if "enum" in form:
        yield "no such word"
    if "minimum" in form:
        yield form["minimum"] - 1
    if "exclusiveMinimum" in form:
        yield form["exclusiveMinimum"]
    if "maximum" in form:
        yield form["maximum"] + 1
    if "exclusiveMaximum" in form:
        yield form["exclusiveMaximum"]
    if form.get("minLength"):
        yield "x" * (form["minLength"] - 1)
    if form.get("maxLength", 1 << 20) < 10_000:
        yield "x" * (form["maxLength"] + 1)
    if form.get("minItems"):
        yield []
