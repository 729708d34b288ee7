"""What the body of an error looks like in each dialect, and which errors a route documents."""

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from trainyard.core import errors
from trainyard.core.http import dialects, header_docs
from trainyard.core.http.dialects import Dialect

Code = Annotated[str, Meta(description="Machine-readable reason, snake_case, such as `not_found`.")]
Said = Annotated[str, Meta(description="What happened and what would be right.")]
RequestId = Annotated[str, Meta(description="Of the answer's `X-Request-ID` and of the server's log.")]
Facts = Annotated[dict[str, Any], Meta(description="Further facts about this error; absent when there are none.")]


class Fault(Struct, kw_only=True, forbid_unknown_fields=True):
    """One fault of a request."""

    type: Annotated[str, Meta(description="Kind of fault, snake_case.")]
    loc: Annotated[list[str | int], Meta(description="Where: `body`, `query` or `path`, then names and indices.")]
    msg: Annotated[str, Meta(description="What is wrong there.")]
    input: Annotated[Any, Meta(description="What was sent there; absent when long or no plain value.")] = UNSET


Detail = Annotated[
    str | list[Fault], Meta(description="A list of faults on 422, on any other status the message again.")
]


class ErrorFacts(Struct, kw_only=True, forbid_unknown_fields=True):
    """The error in OpenAI's words."""

    message: Said
    type: Annotated[
        str,
        Meta(
            description="`invalid_request_error`, `authentication_error`, `permission_error`, `rate_limit_error` or "
            "`server_error`."
        ),
    ]
    code: Code
    param: Annotated[str | None, Meta(description="Path of the field at fault; null when no one field is.")]


class NativeError(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of every error of a native route."""

    error: Annotated[ErrorFacts, Meta(description="The error as OpenAI's clients read it.")]
    code: Code
    message: Said
    detail: Detail
    request_id: RequestId
    data: Facts | UnsetType = UNSET


class SignalError(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of every error of a training route."""

    error: Said
    detail: Detail
    code: Code
    request_id: RequestId
    data: Facts | UnsetType = UNSET


class OpenAIError(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of every error of OpenAI's routes, and the event that ends a stream which cannot go on."""

    error: Annotated[ErrorFacts, Meta(description="The error.")]


class CodeFault(Struct, kw_only=True, forbid_unknown_fields=True):
    """One fault of a request to the sandbox."""

    field: Annotated[str | None, Meta(description="Path of the field at fault; null when no one field is.")]
    message: Annotated[str, Meta(description="What is wrong there.")]
    code: Code


class CodeError(Struct, kw_only=True, forbid_unknown_fields=True):
    """Body of every error of the sandbox's routes, and data of the event `error`."""

    error: Annotated[str, Meta(description="The message; `rate_limited` on 429, which LibreChat looks for.")]
    error_type: Annotated[
        str,
        Meta(
            description="`authentication`, `authorization`, `validation`, `resource_not_found`, `resource_conflict`, "
            "`resource_exhausted`, `rate_limited`, `timeout`, `internal_server`, `external_service` or "
            "`service_unavailable`."
        ),
    ]
    code: Code
    message: Said
    details: Annotated[list[CodeFault], Meta(description="The faults; empty where the server is to blame.")]
    request_id: RequestId
    timestamp: Annotated[str, Meta(description="ISO 8601, UTC.")]
    retry_after_seconds: Annotated[
        int | UnsetType, Meta(description="On 429, where waiting helps: seconds to wait.")
    ] = UNSET
    data: Facts | UnsetType = UNSET


BODY_OF: Mapping[Dialect, type[Struct]] = {
    "native": NativeError,
    "signal": SignalError,
    "openai": OpenAIError,
    "code": CodeError,
}

_REFERENCE = "#/components/schemas/{name}"


def schemas() -> dict[str, Any]:
    """Describe the bodies of all dialects for the components of an OpenAPI document."""
    return dict(msgspec.json.schema_components(BODY_OF.values(), ref_template=_REFERENCE)[1])


def reference(dialect: Dialect) -> dict[str, str]:
    """Point at the body of a dialect."""
    return {"$ref": _REFERENCE.format(name=BODY_OF[dialect].__name__)}


def responses(dialect: Dialect, *raised: type[errors.TrainyardError]) -> dict[int | str, dict[str, Any]]:
    """Describe the answers to errors for `responses=` of a FastAPI route or for a document.

    Args:
        dialect: Decides status and body.
        raised: What the route raises; classes of one status share an answer that says both.
    """
    by_status: dict[int, list[type[errors.TrainyardError]]] = {}
    for cls in dict.fromkeys(raised):
        for status in _statuses(cls, dialect):
            by_status.setdefault(status, []).append(cls)
    return {status: _response(dialect, status, by_status[status]) for status in sorted(by_status)}


def _statuses(cls: type[errors.TrainyardError], dialect: Dialect) -> list[int]:
    """Tell the status of a class, and the one for requests at fault that its code decides.

    Of the codes of one route only few have a status of their own besides; it describes those itself.
    """
    own = dialects.status_of(cls(), dialect)
    is_bad = cls is errors.InvalidRequest and 400 in dialects.STATUS_OF_CODE[dialect].values()
    return [400, own] if is_bad else [own]


def _response(dialect: Dialect, status: int, raised: list[type[errors.TrainyardError]]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": " Or: ".join(cls().message for cls in raised),
        "content": {"application/json": {"schema": reference(dialect)}},
    }
    headers = header_docs.of_error(status)
    if headers:
        described["headers"] = headers
    return described
