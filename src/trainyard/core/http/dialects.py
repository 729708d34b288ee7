"""How an error is answered: the one table class -> HTTP status -> exit code, and one rendering per dialect."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from trainyard.core import errors
from trainyard.core.http import code_dialect
from trainyard.core.metering import headers as rate_headers

Dialect = Literal["native", "signal", "openai", "code"]

STATUS: Mapping[type[errors.TrainyardError], int] = {
    errors.TrainyardError: 500,
    errors.InvalidRequest: 422,
    errors.UnknownModel: 404,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    errors.LimitReached: 429,
    errors.QuotaExhausted: 402,
    errors.UpstreamFailed: 502,
    errors.Unavailable: 503,
    errors.DeadlineExceeded: 504,
    errors.ConfigError: 500,
    errors.StartupError: 500,
    errors.SchemaTooNew: 500,
}
"""HTTP status of each class, unless the dialect has its own below."""

STATUS_OF_DIALECT: Mapping[Dialect, Mapping[type[errors.TrainyardError], int]] = {
    "native": {},
    "signal": {errors.UnknownModel: 400},
    "openai": {errors.InvalidRequest: 400, errors.UnknownModel: 404},
    "code": {errors.QuotaExhausted: 429},
}
"""Where clients of a dialect expect another status: Signal's guide, OpenAI's reference, LibreChat's code executor."""

STATUS_OF_CODE: Mapping[Dialect, Mapping[str, int]] = {
    "native": {},
    "signal": {},
    "openai": {},
    "code": {
        **dict.fromkeys(
            ("empty_code", "invalid_json", "invalid_multipart", "invalid_state", "unsupported_language"), 400
        ),
        **dict.fromkeys(("execution_profile_mismatch", "unsupported_capability"), 400),
        **dict.fromkeys(("storage_full", "too_many_files"), 413),
        "unsupported_media_type": 415,
        "range_not_satisfiable": 416,
    },
}
"""Where the code of an error decides, before its class does."""

EXIT: Mapping[type[errors.TrainyardError], int] = {
    errors.TrainyardError: 1,
    errors.InvalidRequest: 2,
    errors.UnknownModel: 2,
    errors.TooLarge: 2,
    errors.ConfigError: 2,
    errors.Unauthenticated: 3,
    errors.Forbidden: 3,
    errors.NotFound: 4,
    errors.Conflict: 5,
    errors.LimitReached: 6,
    errors.QuotaExhausted: 6,
    errors.UpstreamFailed: 7,
    errors.Unavailable: 7,
    errors.DeadlineExceeded: 8,
    errors.StartupError: 9,
    errors.SchemaTooNew: 9,
}
"""Exit code of a command that ends with this class; 0 is success, 130 is Ctrl-C."""

_OPENAI_TYPE: Mapping[int, str] = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}

_INTERNAL_MESSAGE = "Something inside the server went wrong; report it with the request id"

FIELD_ERRORS = "errors"
"""Key of `error.data` under which the list of faulty fields of a request stands, in FastAPI's form."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer before it becomes bytes."""

    status: int
    body: dict[str, object]
    headers: dict[str, str] = field(default_factory=dict)


def status_of(error: errors.TrainyardError, dialect: Dialect = "native") -> int:
    """Find the HTTP status of an error in a dialect; a subclass without a row has its parent's."""
    by_code = STATUS_OF_CODE[dialect].get(error.code)
    if by_code is not None:
        return by_code
    own = STATUS_OF_DIALECT[dialect]
    for cls in type(error).__mro__:
        for table in (own, STATUS):
            if cls in table:
                return table[cls]
    raise AssertionError("STATUS has a row for the root")


def exit_code(error: errors.TrainyardError) -> int:
    """Find the exit code of a command that ends with this error."""
    return next(EXIT[cls] for cls in type(error).__mro__ if cls in EXIT)


def render(
    error: errors.TrainyardError, dialect: Dialect, request_id: str | None, *, status: int | None = None
) -> Rendered:
    """Put an error into the words of a dialect.

    Args:
        error: What happened.
        dialect: Whose clients read the answer.
        request_id: Of the request, for the body.
        status: In place of the table's, for errors that a framework made (405).
    """
    status = status or status_of(error, dialect)
    message = error.message if status != 500 else _INTERNAL_MESSAGE
    code = error.code if status != 500 else errors.TrainyardError.code
    if dialect == "openai":
        body: dict[str, object] = {"error": _openai(status, message, code, error.param)}
    elif dialect == "signal":
        body = {"error": message, "detail": _detail(error, status, message), "code": code, "request_id": request_id}
    elif dialect == "code":
        body = code_dialect.body(error, status, message, code, _faulty(error), request_id)
    else:
        inner = {"message": message, "type": _type(status), "code": code, "param": error.param}
        detail = _detail(error, status, message)
        body = {"error": inner, "code": code, "message": message, "detail": detail, "request_id": request_id}
    facts = {name: value for name, value in error.data.items() if name != FIELD_ERRORS}
    if facts and dialect != "openai" and status != 500:
        body["data"] = facts
    return Rendered(status, body, _headers(status, error))


def _detail(error: errors.TrainyardError, status: int, message: str) -> object:
    """The message; on 422 a list in FastAPI's form, whoever found the fault, since clients iterate over it."""
    faulty = _faulty(error)
    if faulty:
        return faulty
    if status != 422:
        return message
    return [{"type": error.code, "loc": ["body", *_steps(error.param)], "msg": message}]


def _faulty(error: errors.TrainyardError) -> list[object]:
    """Find the list of faulty fields that a framework made; empty where there is none."""
    faulty = error.data.get(FIELD_ERRORS)
    return list(faulty) if isinstance(faulty, Sequence) and not isinstance(faulty, str) else []


def _steps(param: str | None) -> list[str | int]:
    """Split `messages[2].content` into its steps."""
    steps = re.findall(r"[^.\[\]]+", param or "")
    return [int(step) if step.isdecimal() else step for step in steps]


def _openai(status: int, message: str, code: str, param: str | None) -> dict[str, object]:
    return {"message": message, "type": _type(status), "param": param, "code": code}


def _type(status: int) -> str:
    return _OPENAI_TYPE.get(status, "invalid_request_error" if status < 500 else "server_error")


def _headers(status: int, error: errors.TrainyardError) -> dict[str, str]:
    headers = {}
    if status == 401:
        fault = "" if error.code == "missing_api_key" else ', error="invalid_token"'
        headers["WWW-Authenticate"] = f'Bearer realm="trainyard"{fault}'
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if status in (402, 429):
        headers |= rate_headers.of_refusal(error.data, error.retry_after_s)
    if error.code == "range_not_satisfiable":
        headers["Content-Range"] = f"bytes */{error.data.get('size_bytes', '*')}"
    if error.code == "draining" or status == 413:
        headers["Connection"] = "close"  # go elsewhere; or: do not send the rest of the body
    return headers
