"""Hot routes: plain Starlette and msgspec, yet with the same errors and in the same OpenAPI document."""

import difflib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from trainyard.core import errors
from trainyard.core.http import auth, error_bodies
from trainyard.core.http.dialects import Dialect
from trainyard.core.principal import Principal


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with headers of its own.

    Attributes:
        body: A struct, or JSON that is written already.
        headers: Beside those of every answer.
    """

    body: msgspec.Struct | bytes
    headers: Sequence[tuple[bytes, bytes]] = ()
    status: int = 200


Body = TypeVar("Body", bound=msgspec.Struct)
Handler = Callable[[Request, Body, Principal], Awaitable[msgspec.Struct | Reply | Response]]

_AT = re.compile(r" - at `(?:key in )?\$\.?(?P<path>[^`]*)`$")
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<field>.*?)`")
_MISSING = re.compile(r"Object missing required field `(?P<field>.*?)`")

_encoder = msgspec.json.Encoder()


class HotRoute(Route):
    """A POST route whose body and answer are msgspec structs.

    Attributes:
        dialect: Whose clients read its errors.
        request_type: Struct of the body.
        response_type: Struct of the JSON answer.
        event_type: Struct of one server-sent event, where the route can answer with a stream.
        raises: Errors of the route beyond those that its form brings along, for the documentation.
        summary: One line for the documentation.
    """

    def __init__(
        self,
        path: str,
        handler: Handler[Any],
        *,
        request_type: type[msgspec.Struct],
        response_type: type[msgspec.Struct],
        scope: str,
        dialect: Dialect,
        summary: str,
        event_type: type[msgspec.Struct] | None = None,
        raises: Sequence[type[errors.TrainyardError]] = (),
    ) -> None:
        self.dialect: Dialect = dialect
        self.request_type = request_type
        self.response_type = response_type
        self.event_type = event_type
        self.raises = tuple(raises)
        self.summary = summary
        decoder = msgspec.json.Decoder(request_type)

        async def endpoint(request: Request) -> Response:
            principal = await auth.authenticate(request, scope)
            body = decode(decoder, await request.body())
            answer = await handler(request, body, principal)
            if isinstance(answer, Response):
                return answer
            if isinstance(answer, Reply):
                content = answer.body if isinstance(answer.body, bytes) else _encoder.encode(answer.body)
                made = Response(content, answer.status, media_type="application/json")
                made.raw_headers.extend(answer.headers)
                return made
            return Response(_encoder.encode(answer), media_type="application/json")

        super().__init__(path, endpoint, methods=["POST"], name=handler.__name__)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as Starlette does and tell the metrics which route it is."""
        match, child = super().matches(scope)
        if match is not Match.NONE:
            child["route"] = self
        return match, child


def hot_route(
    path: str,
    handler: Handler[Body],
    *,
    request_type: type[Body],
    response_type: type[msgspec.Struct],
    scope: str,
    dialect: Dialect,
    summary: str,
    event_type: type[msgspec.Struct] | None = None,
    raises: Sequence[type[errors.TrainyardError]] = (),
) -> HotRoute:
    """Make a hot route; `handler(request, body, principal)` answers with a struct or with a Starlette response."""
    return HotRoute(
        path,
        handler,
        request_type=request_type,
        response_type=response_type,
        scope=scope,
        dialect=dialect,
        summary=summary,
        event_type=event_type,
        raises=raises,
    )


def decode(decoder: msgspec.json.Decoder[Body], raw: bytes) -> Body:
    """Read a body.

    Raises:
        errors.InvalidRequest: It is no JSON (code `invalid_json`) or does not fit; `param` is the path of the field.
    """
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _explained(str(error), decoder.type) from error
    except msgspec.DecodeError as error:
        said = "it is empty" if not raw else str(error)
        raise errors.InvalidRequest(f"The body is not valid JSON: {said}", code="invalid_json") from error
    except RecursionError as error:
        raise errors.InvalidRequest("The body is nested too deeply", code="invalid_json") from error
    except UnicodeDecodeError as error:
        raise errors.InvalidRequest("The body is not valid UTF-8", code="invalid_json") from error


def _explained(text: str, request_type: type[msgspec.Struct]) -> errors.InvalidRequest:
    located = _AT.search(text)
    path = located["path"] if located else ""
    said = text[: located.start()] if located else text
    unknown, missing = _UNKNOWN.match(said), _MISSING.match(said)
    if unknown:
        path = f"{path}.{unknown['field']}" if path else unknown["field"]
        said = f"unknown field{_hint(path, request_type)}"
    elif missing:
        path = f"{path}.{missing['field']}" if path else missing["field"]
        said = "this field is required"
    return errors.InvalidRequest(f"{path}: {said}" if path else said, param=path or None)


def _hint(path: str, request_type: type[msgspec.Struct]) -> str:
    if "." in path or "[" in path:
        return ""
    valid = [field.encode_name for field in msgspec.structs.fields(request_type)]
    close = difflib.get_close_matches(path, valid, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; valid fields: {', '.join(valid)}"


def openapi_parts(routes: Sequence[HotRoute]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Describe hot routes for the OpenAPI document: path items and schemas."""
    used = (kind for route in routes for kind in (route.request_type, route.response_type, route.event_type))
    types = list(dict.fromkeys(kind for kind in used if kind is not None))
    refs, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    ref_of = dict(zip(types, refs, strict=True))
    return {route.path: {"post": _operation(route, ref_of)} for route in routes}, dict(schemas)


def _operation(route: HotRoute, ref_of: Mapping[type[msgspec.Struct], Mapping[str, Any]]) -> dict[str, Any]:
    asked = {"application/json": {"schema": ref_of[route.request_type]}}
    success: dict[str, Any] = {
        "description": "Success",
        "content": {"application/json": {"schema": ref_of[route.response_type]}},
    }
    if route.event_type is not None:
        events = [ref_of[route.event_type], error_bodies.reference(route.dialect)]
        success["description"] = "Success; with `stream` server-sent events, of which an error is the last one"
        success["content"]["text/event-stream"] = {"schema": {"anyOf": events}}
    failures = error_bodies.responses(route.dialect, errors.InvalidRequest, *route.raises)
    return {
        "summary": route.summary,
        "operationId": route.name,
        "requestBody": {"required": True, "content": asked},
        "responses": {"200": success, **{str(status): answer for status, answer in failures.items()}},
        "security": [{"HTTPBearer": []}, {"APIKeyHeader": []}],
    }
