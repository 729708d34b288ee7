"""Whether a finished text is what was asked for: JSON, JSON of a schema, or text of a regular expression.

Everything here runs on what strangers send, in the event loop: expressions are matched by an engine of linear time,
references lead nowhere but into the schema itself, and the number of steps is bounded.
"""

import json
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import jsonschema
import referencing
from pydantic import StringConstraints, TypeAdapter
from pydantic import ValidationError as PatternMismatch
from pydantic_core import SchemaError as PatternError

from trainyard.core import errors
from trainyard.engine.types import Grammar

MAX_STEPS = 20_000
"""References followed and patterns tried for one answer; schemas of people need a few hundred."""

MAX_SCHEMA_BYTES = 64 * 1024
"""Of a schema; it is judged in the event loop. The engines here take as much."""

_SHOWN_CHARS = 300
_NO_FORMATS = jsonschema.FormatChecker(formats=())  # patterns are in Rust's syntax, and judged by its engine
_NOWHERE: referencing.Registry[Any] = referencing.Registry()  # without a way to retrieve anything

Check = Callable[[str], str | None]
"""Tells what is wrong with a text; None when nothing is."""


class _TooManySteps(Exception):
    pass


def checker(form: Grammar, param: str) -> Check:
    """Make a check of a form.

    Raises:
        errors.InvalidRequest: The form itself is at fault, or cannot be checked (`unsupported_parameter`).
    """
    if form.kind == "json_object":
        return _is_object
    if form.kind == "regex":
        return _pattern_check(form.text, param)
    if form.kind == "json_schema":
        return _schema_check(form.text, param)
    raise errors.InvalidRequest(
        "A model on a server elsewhere keeps no lark grammar; it can keep json_schema, json_object and regex",
        code="unsupported_parameter",
        param=param,
    )


def _is_object(text: str) -> str | None:
    value, fault = _parsed(text)
    if fault is None and not isinstance(value, dict):
        return "the text is JSON but not an object"
    return fault


def _pattern_check(expression: str, param: str) -> Check:
    matches = _pattern(rf"\A(?:{expression})\z", param)

    def check(text: str) -> str | None:
        return None if matches(text) else "the whole text does not match the regular expression"

    return check


def _schema_check(text: str, param: str) -> Check:
    if len(text.encode()) > MAX_SCHEMA_BYTES:
        raise errors.InvalidRequest(f"The schema is longer than {MAX_SCHEMA_BYTES} bytes", param=param)
    schema, fault = _parsed(text)
    if fault is not None or not isinstance(schema, dict | bool):
        raise errors.InvalidRequest("The schema is not a JSON object", param=param)
    _refuse_remote_references(schema, param)
    _refuse_unbounded(schema, param)
    try:
        jsonschema.Draft202012Validator.check_schema(schema, _NO_FORMATS)
    except jsonschema.SchemaError as error:
        said = " ".join(error.message.split())[:_SHOWN_CHARS]
        raise errors.InvalidRequest(f"The schema is not valid: {said}", param=param) from error
    for expression in _expressions(schema):
        _pattern(expression, param)

    def check(answer: str) -> str | None:
        value, fault = _parsed(answer)
        return fault if fault is not None else _schema_fault(schema, value)

    return check


def _schema_fault(schema: Any, value: object) -> str | None:
    try:
        fault = next(_bounded(schema).iter_errors(value), None)
    except referencing.exceptions.Unresolvable as error:
        return f"the schema refers to {str(error)[:_SHOWN_CHARS]}, which is not in it"
    except (_TooManySteps, RecursionError):
        return "the schema takes too many steps to check"
    except OverflowError:
        return "the text holds numbers that are too large to check"
    if fault is None:
        return None
    return f"{fault.json_path}: {fault.message}"[:_SHOWN_CHARS]


class _Steps:
    """Keywords that count what they do, for one answer."""

    def __init__(self) -> None:
        self._left = MAX_STEPS

    def keywords(self) -> dict[str, Any]:
        """Replace those keywords whose own way is unbounded."""
        own = jsonschema.Draft202012Validator.VALIDATORS
        return {
            "$ref": self._counted(own["$ref"]),
            "$dynamicRef": self._counted(own["$dynamicRef"]),
            "pattern": self._pattern,
            "patternProperties": self._pattern_properties,
            "additionalProperties": self._additional_properties,
            "uniqueItems": _unique_items,
        }

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise _TooManySteps

    def _counted(self, keyword: Any) -> Any:
        def check(validator: Any, given: Any, instance: Any, whole: Any) -> Iterator[Any]:
            self._count()
            yield from keyword(validator, given, instance, whole) or ()

        return check

    def _pattern(self, _: Any, expression: str, instance: Any, __: Any) -> Iterator[Any]:
        self._count()
        if isinstance(instance, str) and not _pattern(expression, "")(instance):
            yield jsonschema.ValidationError(f"the text does not match {expression!r}")

    def _pattern_properties(self, validator: Any, patterns: dict[str, Any], instance: Any, _: Any) -> Iterator[Any]:
        for expression, inner in patterns.items() if isinstance(instance, dict) else ():
            matches = _pattern(expression, "")
            for name, value in instance.items():
                self._count()
                if matches(name):
                    yield from validator.descend(value, inner, path=name, schema_path=expression)

    def _additional_properties(self, validator: Any, inner: Any, instance: Any, whole: Any) -> Iterator[Any]:
        named = whole.get("properties", {})
        patterns = [_pattern(expression, "") for expression in whole.get("patternProperties", {})]
        for name, value in instance.items() if isinstance(instance, dict) else ():
            self._left -= len(patterns)
            self._count()
            if name in named or any(matches(name) for matches in patterns):
                continue
            if inner is False:
                yield jsonschema.ValidationError(f"Additional properties are not allowed ({name!r} was unexpected)")
            else:
                yield from validator.descend(value, inner, path=name)


def _unique_items(_: Any, wanted: Any, instance: Any, __: Any) -> Iterator[Any]:
    if wanted and isinstance(instance, list) and len({_identity(item) for item in instance}) < len(instance):
        yield jsonschema.ValidationError("the array has items that are equal")


def _identity(value: Any) -> object:
    """Make something hashable that is equal for equal JSON: 1 is 1.0, but not true."""
    if isinstance(value, dict):
        return "object", frozenset((name, _identity(inner)) for name, inner in value.items())
    if isinstance(value, list):
        return "array", tuple(_identity(inner) for inner in value)
    return (type(value).__name__ if isinstance(value, bool) else ""), value


def _bounded(schema: Any) -> Any:
    """Make a validator whose patterns are linear and whose references are counted."""
    extend: Any = jsonschema.validators.extend
    return extend(jsonschema.Draft202012Validator, _Steps().keywords())(schema, registry=_NOWHERE)


def _pattern(expression: str, param: str) -> Callable[[str], bool]:
    """Compile an expression in Rust's syntax, whose time is linear in the text.

    Raises:
        errors.InvalidRequest: It is none; look-around and back-references are not part of that syntax.
    """
    try:
        kind = TypeAdapter[str](Annotated[str, StringConstraints(pattern=expression, strict=True)])
    except PatternError as error:
        raise errors.InvalidRequest(
            f"The regular expression {expression[:80]!r} cannot be used; look-around and back-references are not "
            "available, and everything is in Rust's syntax",
            code="unsupported_parameter",
            param=param,
        ) from error

    def matches(text: str) -> bool:
        try:
            kind.validate_python(text)
        except PatternMismatch:
            return False
        return True

    return matches


def _expressions(schema: object) -> Iterator[str]:
    """Find the patterns of a schema."""
    for inner in _walk(schema):
        expression = inner.get("pattern")
        if isinstance(expression, str):
            yield expression
        several = inner.get("patternProperties")
        if isinstance(several, dict):
            yield from several


def _refuse_remote_references(schema: object, param: str) -> None:
    for inner in _walk(schema):
        for key in ("$ref", "$dynamicRef"):
            reference = inner.get(key)
            if isinstance(reference, str) and not reference.startswith("#"):
                raise errors.InvalidRequest(
                    f"The schema refers to {reference[:80]!r}; references lead into the schema itself (#/…), and "
                    "nothing is fetched",
                    code="unsupported_parameter",
                    param=param,
                )


def _refuse_unbounded(schema: object, param: str) -> None:
    """Refuse the one pair of keywords whose check matches patterns by an engine that can be made to run for ever."""
    used = {keyword for inner in _walk(schema) for keyword in inner}
    if {"unevaluatedProperties", "patternProperties"} <= used:
        raise errors.InvalidRequest(
            "The schema has unevaluatedProperties beside patternProperties, which is not checked here; write "
            "additionalProperties",
            code="unsupported_parameter",
            param=param,
        )


def _walk(value: object) -> Iterator[dict[str, Any]]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield one
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _parsed(text: str) -> tuple[object, str | None]:
    """Parse JSON as the standard has it: no NaN, no infinities."""
    try:
        return json.loads(text, parse_constant=_refuse_constant), None
    except (ValueError, RecursionError) as error:
        return None, f"the text is not JSON: {str(error)[:_SHOWN_CHARS]}"


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not part of JSON")
