"""Hot routes in the OpenAPI document."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from trainyard.core import errors
from trainyard.core.http import error_bodies, header_docs
from trainyard.core.http.hot import HotRoute


def openapi_parts(routes: Sequence[HotRoute]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Describe hot routes for the OpenAPI document: path items and schemas."""
    used = (kind for route in routes for kind in (route.request_type, route.response_type, *_events(route)))
    types = list(dict.fromkeys(used))
    refs, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    ref_of = dict(zip(types, refs, strict=True))
    return {route.path: {"post": _operation(route, ref_of)} for route in routes}, dict(schemas)


def _events(route: HotRoute) -> list[type[msgspec.Struct]]:
    """List the structs of a route's events; none where it cannot stream."""
    single = [] if route.event_type is None else [route.event_type]
    return list(dict.fromkeys((*single, *route.named_events.values())))


def _operation(route: HotRoute, ref_of: Mapping[type[msgspec.Struct], Mapping[str, Any]]) -> dict[str, Any]:
    asked = {"application/json": {"schema": ref_of[route.request_type]}}
    failures = error_bodies.responses(route.dialect, errors.InvalidRequest, *route.raises)
    is_idempotent, is_metered = route.is_idempotent, errors.LimitReached in route.raises
    success = {
        **_success(route, ref_of),
        "headers": header_docs.of_success(is_metered=is_metered, is_idempotent=is_idempotent, caches=route.caches),
    }
    return {
        "summary": route.summary,
        "operationId": route.name,
        "parameters": list(header_docs.of_request(is_idempotent=is_idempotent, caches=route.caches)),
        "requestBody": {"required": True, "content": asked},
        "responses": {"200": success, **{str(status): answer for status, answer in failures.items()}},
        "security": [{"HTTPBearer": []}, {"APIKeyHeader": []}],
    }


def _success(route: HotRoute, ref_of: Mapping[type[msgspec.Struct], Mapping[str, Any]]) -> dict[str, Any]:
    whole = {"application/json": {"schema": ref_of[route.response_type]}}
    kinds = _events(route)
    if not kinds:
        return {"description": "Success", "content": whole}
    events = {"anyOf": [*(ref_of[kind] for kind in kinds), error_bodies.reference(route.dialect)]}
    stream = {"text/event-stream": {"schema": events}}
    ends = "of which an error is the last one; `data: [DONE]` ends one without"
    if route.named_events:
        *others, last = route.named_events
        ends = f"named {', '.join(others)}; `{last}` or `error` is the last one"
    if "stream" not in route.request_type.__struct_fields__:  # nothing else can be asked for
        return {"description": f"Success: server-sent events, {ends}", "content": stream}
    return {"description": f"Success; with `stream` server-sent events, {ends}", "content": {**whole, **stream}}
