"""The OpenAPI document: what FastAPI makes of its own routes, the hot routes, and the errors of all of them."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI

from trainyard.core import errors
from trainyard.core.http import error_bodies
from trainyard.core.http.hot import HotRoute
from trainyard.core.http.hot_document import openapi_parts
from trainyard.core.http.routing import PUBLIC_PATHS, DialectMap

_SECURITY_SCHEMES = {
    "HTTPBearer": {"type": "http", "scheme": "bearer"},
    "APIKeyHeader": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_KEY_OR_LINK: list[dict[str, list[str]]] = [{"HTTPBearer": []}, {"APIKeyHeader": []}, {}]
"""Of routes that look for a key themselves: a signature in the query does too."""
_METHODS = frozenset({"get", "put", "post", "delete", "patch", "head", "options"})
_FRAMEWORK_SCHEMAS = ("HTTPValidationError", "ValidationError")
"""FastAPI's own shapes of a 422, which no answer of this server has."""


def describe(app: FastAPI, hot_routes: Sequence[HotRoute], dialect_map: DialectMap) -> None:
    """Make `app.openapi` give the whole document; it is built at the first call.

    Raises of `app.openapi`:
        errors.TrainyardError: Two types of the interface have one name.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _complete(generate(), hot_routes, dialect_map)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents


def _complete(document: dict[str, Any], hot_routes: Sequence[HotRoute], dialect_map: DialectMap) -> dict[str, Any]:
    components = document.setdefault("components", {})
    known = components.setdefault("schemas", {})
    for name in _FRAMEWORK_SCHEMAS:
        known.pop(name, None)
    paths, schemas = openapi_parts(hot_routes)
    for more in (schemas, error_bodies.schemas()):
        _add(known, more)
    document["paths"].update(paths)
    components.setdefault("securitySchemes", {}).update(_SECURITY_SCHEMES)
    for path, item in document["paths"].items():
        for method in _METHODS & set(item):
            if path not in PUBLIC_PATHS:
                _add_errors(path, item[method], dialect_map)
    return document


def _add(known: dict[str, Any], more: Mapping[str, Any]) -> None:
    twice = sorted(set(known) & set(more))
    if twice:
        raise errors.TrainyardError(f"two types of the interface are named {twice[0]}; rename one")
    known.update(more)


def _add_errors(path: str, operation: dict[str, Any], dialect_map: DialectMap) -> None:
    """Add the answers that follow from what an operation takes; a route names what else it raises itself."""
    described: dict[str, Any] = operation["responses"]
    if any(f"/{name}" in str(described.get("422")) for name in _FRAMEWORK_SCHEMAS):
        del described["422"]
    common = error_bodies.responses(dialect_map.of(path), *_common(operation))
    for answer in described.values():
        for media in answer.get("content", {}).values():
            if "$ref" in media.get("schema", {}):
                media["schema"].pop("type", None)  # FastAPI calls events that are no JSON a string beside their type
    given = {**{str(status): answer for status, answer in common.items()}, **described}
    operation["responses"] = dict(sorted(given.items()))
    operation.setdefault("security", _KEY_OR_LINK)


def _common(operation: Mapping[str, Any]) -> list[type[errors.TrainyardError]]:
    raised: list[type[errors.TrainyardError]] = [errors.Unauthenticated, errors.Forbidden, errors.Unavailable]
    places = {parameter["in"] for parameter in operation.get("parameters", ())}
    if "path" in places:
        raised.append(errors.NotFound)
    if "requestBody" in operation:
        raised.append(errors.TooLarge)
    if "requestBody" in operation or places - {"path"}:  # what stands in a path is found or not found
        raised.append(errors.InvalidRequest)
    return raised
