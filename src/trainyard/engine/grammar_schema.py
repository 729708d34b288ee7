"""JSON schemas before they are compiled: what cannot be kept is refused, what is left open is drawn tighter.

A tightened schema admits some of the texts of the original and no other, so an answer to it is an answer to both:

* an object whose `properties` are listed gets no names that its schema does not speak of;
* numbers stay between -(2^53 - 1) and 2^53 - 1, which every reader of JSON holds exactly, without an exponent; bounds
  beyond are drawn in by `bounded`, wherever they stand, and other numbers beyond are refused;
* `date`, `date-time` and `time` keep to what calendars and clocks have (no year 0, no 29 February, no leap second).

The first two only where a value is described by one schema alone: a schema under `allOf`, or beside other keywords that
apply to the same value, means something only together with them.
"""

import operator
from collections.abc import Iterator, Mapping
from typing import Any, Final

Schema = dict[str, Any]

MAX_DEPTH: Final = 64
"""Deepest nesting of a schema's text; the published collections of real schemas stay under 30."""
SAFE: Final = 2**53 - 1
"""RFC 8259, section 6: integers up to here are the same number to every reader; llguidance rounds those beyond, and a
constant of -2^63 ends its process."""
_BEYOND: Final = "a number beyond 2^53 - 1 either way is not the same to every reader of JSON and cannot be kept"
_LOWER, _UPPER = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
_VALUES: Final = ("const", "enum")
_OPTIONS: Final = "x-guidance"
ANY: Final = "trainyard-any-value"
_ANY_REF: Final = {"$ref": f"#/$defs/{ANY}"}
_ANY_VALUE: Final[Schema] = {
    "anyOf": [
        {"type": ["string", "boolean", "null"]},
        {"type": "number", "minimum": -SAFE, "maximum": SAFE},
        {"type": "object", "additionalProperties": _ANY_REF},
        {"type": "array", "items": _ANY_REF},
    ]
}
_NOTES: Final = {"$comment", "$id", "$schema", "title", "description", "default", "examples"}
_SAYS_NOTHING: Final = _NOTES | {"$defs", "definitions", "deprecated", "readOnly", "writeOnly"}
_IN_PLACE: Final = ("allOf", "anyOf", "oneOf")
_DATE: Final = (
    "[1-9][0-9]{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
)
_HOUR: Final = "(?:[01][0-9]|2[0-3]):[0-5][0-9]"
_TIME: Final = f"{_HOUR}:[0-5][0-9](?:\\.[0-9]{{1,6}})?(?:Z|[+-]{_HOUR})"
_CLOCKS: Final = {"date": f"^{_DATE}$", "time": f"^{_TIME}$", "date-time": f"^{_DATE}T{_TIME}$"}


def refusal(schema: Schema) -> str | None:
    """Say why a schema cannot be kept; None when nothing is known against it."""
    if _OPTIONS in schema:
        return f"{_OPTIONS} is no keyword here"  # it would switch the refusals of other keywords off
    for node, depth in _objects(schema):
        if depth > MAX_DEPTH:
            return f"it is nested deeper than {MAX_DEPTH} levels"
        fewest, required = node.get("minProperties"), node.get("required")
        named = len(set(map(str, required))) if isinstance(required, list) else 0
        if isinstance(fewest, int) and fewest > max(1, named):  # free names may come twice, so they cannot be counted
            return "minProperties above the number of required names cannot be kept; name them under `required`"
    return number_fault(schema)


def number_fault(schema: object) -> str | None:
    """Say which number of a schema cannot be kept; None when all can."""
    for node, _ in _objects(schema):
        values = [one for key in _VALUES if key in node for one in _numbers(node[key])]
        low = [node[key] for key in _LOWER if _is_number(node.get(key))]
        high = [node[key] for key in _UPPER if _is_number(node.get(key))]
        if any(abs(one) > SAFE for one in values) or max(low, default=0) > SAFE or min(high, default=0) < -SAFE:
            return _BEYOND
    return None


def bounded(node: Any) -> Any:
    """Bring the bounds of numbers, wherever they stand, to where llguidance keeps them exactly; some are drawn in."""
    if isinstance(node, list):
        return [bounded(one) for one in node]
    if not isinstance(node, dict):
        return node
    out = {key: value if key in _VALUES else bounded(value) for key, value in node.items()}
    for keys, limit, is_beyond in ((_LOWER, -SAFE, operator.lt), (_UPPER, SAFE, operator.gt)):
        for key in keys:
            if _is_number(out.get(key)) and is_beyond(out[key], limit):
                del out[key]
                out.setdefault(keys[0], limit)
    if out.get("type") != "integer":
        _open_ends(out)
    return out


def _open_ends(node: Schema) -> None:
    """Draw in an end that does not belong to a range shorter than 1: llguidance lets whole numbers there through."""
    low, high = (
        [node[key] for key in keys if _is_number(node.get(key)) and abs(node[key]) <= SAFE] for keys in (_LOWER, _UPPER)
    )
    if not low or not high or not 0 < min(high) - max(low) < 1:
        return
    step = (min(high) - max(low)) / 1000
    for open_end, end, inner in ((_LOWER[1], _LOWER[0], max(low) + step), (_UPPER[1], _UPPER[0], min(high) - step)):
        if _is_number(node.get(open_end)) and float(node[open_end]).is_integer():
            del node[open_end]
            node[end] = inner


def tightened(schema: Schema) -> Schema:
    """Draw a schema tighter where it alone describes a value."""
    known = schema.get("$defs", {})
    if not isinstance(known, dict) or ANY in known:  # no schema, or its author has another meaning for the name
        return schema
    shared: frozenset[str] = frozenset()
    while True:
        pass_ = _Pass(shared)
        out = pass_.node(schema, is_whole="#" not in shared)
        if pass_.shared <= shared:
            return {**out, "$defs": {**out.get("$defs", {}), ANY: _ANY_VALUE}}
        shared |= pass_.shared


def required_names(schema: Schema) -> list[str]:
    """List what stands under `required` anywhere, each name once."""
    lists = [node["required"] for node, _ in _objects(schema) if isinstance(node.get("required"), list)]
    return sorted({name for names in lists for name in names if isinstance(name, str)})


class _Pass:
    """One walk.

    Args:
        shared: References to definitions that also stand beside other schemas for the same value.
    """

    def __init__(self, shared: frozenset[str]) -> None:
        self._known = shared
        self.shared: frozenset[str] = frozenset()

    def node(self, node: Any, *, is_whole: bool) -> Any:
        """Tighten a schema and those inside it."""
        if not isinstance(node, dict):
            return _ANY_REF if node is True and is_whole else node
        says = node.keys() - _SAYS_NOTHING
        if not says:
            return {**self._children(node, is_pure=False), **(_ANY_REF if is_whole else {})}
        if (reference := node.get("$ref")) is not None and not (is_whole and len(says) == 1):
            self.shared |= {str(reference)}
        is_pure = is_whole and not says & {"$ref", "enum", "const", *_IN_PLACE}
        out = self._children(node, is_pure=is_pure)
        for key in _IN_PLACE:
            if isinstance(node.get(key), list):
                is_alone = is_whole and len(says) == 1 and (key != "allOf" or len(node[key]) == 1)
                out[key] = [self.node(one, is_whole=is_alone) for one in node[key]]
        if "pattern" not in node and not says & {"enum", "const"} and (clock := _CLOCKS.get(str(node.get("format")))):
            out["pattern"] = clock
        return {**out, **_bounds(out)} if is_pure else out

    def _children(self, node: Schema, *, is_pure: bool) -> Schema:
        out = dict(node)
        for key in ("properties", "patternProperties"):
            if isinstance(node.get(key), dict):
                out[key] = {name: self.node(one, is_whole=is_pure) for name, one in node[key].items()}
        for key in ("items", "additionalItems", "additionalProperties", "prefixItems"):
            if isinstance(node.get(key), list):
                out[key] = [self.node(one, is_whole=is_pure) for one in node[key]]
            elif key in node:
                out[key] = self.node(node[key], is_whole=is_pure)
        for key in ("$defs", "definitions"):
            if isinstance(node.get(key), dict):
                out[key] = {
                    name: self.node(one, is_whole=f"#/{key}/{name}" not in self._known)
                    for name, one in node[key].items()
                }
        return out


def _bounds(node: Schema) -> Schema:
    """Give the keywords to add to a schema that alone describes its value."""
    kinds = node.get("type")
    types = [kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(kind, str)]
    more: Schema = {}
    if "number" in types or "integer" in types:
        more |= _safe_numbers(node)
    if "object" in types and "additionalProperties" not in node:
        more["additionalProperties"] = False if _lists_all(node) else _ANY_REF
    if "array" in types and "items" not in node:
        more["items"] = _ANY_REF
    return more


def _lists_all(node: Mapping[str, Any]) -> bool:
    """Whether a schema lists names, and those that it requires among them."""
    listed, required = node.get("properties", {}), node.get("required", [])
    if not isinstance(listed, dict) or not isinstance(required, list):
        return False
    return bool(listed or node.get("patternProperties")) and all(name in listed for name in map(str, required))


def _safe_numbers(node: Mapping[str, Any]) -> Schema:
    given = [node[key] for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum") if key in node]
    if any(isinstance(one, bool) or not isinstance(one, int | float) or abs(one) >= SAFE for one in given):
        return {}
    low = {} if {"minimum", "exclusiveMinimum"} & node.keys() else {"minimum": -SAFE}
    return low if {"maximum", "exclusiveMaximum"} & node.keys() else {**low, "maximum": SAFE}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(value: object) -> Iterator[int | float]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, int | float) and not isinstance(one, bool):
            yield one
        elif isinstance(one, dict | list):
            waiting += one.values() if isinstance(one, dict) else one


def _objects(root: object) -> Iterator[tuple[Schema, int]]:
    waiting: list[tuple[object, int]] = [(root, 1)]
    while waiting:
        node, depth = waiting.pop()
        if isinstance(node, dict):
            yield node, depth
        if isinstance(node, dict | list):
            waiting += [(child, depth + 1) for child in (node.values() if isinstance(node, dict) else node)]
