"""Label and field selectors, as the API server reads them."""

import re
from collections.abc import Callable
from typing import Any

from tests.services.kubernetes.answers import Refused

Object = dict[str, Any]
Matches = Callable[[Object], bool]

_SET = re.compile(r"^(?P<key>[^\s!=,()]+)\s+(?P<verb>in|notin)\s+\((?P<values>[^()]*)\)$")
_EQUAL = re.compile(r"^(?P<key>[^\s!=,()]+)\s*(?P<verb>!=|==?)\s*(?P<value>[^\s!=,()]*)$")
_EXISTS = re.compile(r"^(?P<not>!?)(?P<key>[^\s!=,()]+)$")
_FIELDS = {
    "metadata.name": ("metadata", "name"),
    "metadata.namespace": ("metadata", "namespace"),
    "status.phase": ("status", "phase"),
    "status.podIP": ("status", "podIP"),
    "spec.nodeName": ("spec", "nodeName"),
}


def by_labels(selector: str) -> Matches:
    """Read `a=b,c!=d,e in (f,g),h,!i`."""
    tests = [_label_test(part.strip()) for part in re.split(r",(?![^(]*\))", selector) if part.strip()]
    return lambda each: all(test(each["metadata"].get("labels") or {}) for test in tests)


def _label_test(part: str) -> Callable[[dict[str, str]], bool]:
    if found := _SET.match(part):
        key, values = found["key"], {value.strip() for value in found["values"].split(",")}
        if found["verb"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _EQUAL.match(part):
        key, value = found["key"], found["value"]
        if found["verb"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _EXISTS.match(part):
        key, absent = found["key"], bool(found["not"])
        return lambda labels: (key in labels) is not absent
    raise Refused(400, "BadRequest", f"unable to parse requirement: found {part!r}")


def by_fields(selector: str) -> Matches:
    """Read `metadata.name=x,status.phase!=Failed`; other fields are refused as the server does."""
    tests = []
    for part in filter(None, selector.split(",")):
        found = _EQUAL.match(part.strip())
        if found is None or found["key"] not in _FIELDS:
            raise Refused(400, "BadRequest", f"field label not supported: {part.split('=')[0]}")
        tests.append((_FIELDS[found["key"]], found["value"], found["verb"] == "!="))

    def matches(each: Object) -> bool:
        return all((_at(each, path) == value) is not negated for path, value, negated in tests)

    return matches


def _at(each: Object, path: tuple[str, str]) -> str:
    return str((each.get(path[0]) or {}).get(path[1]) or "")
