"""The edge of a request: every exception that leaves a route becomes an answer in the route's dialect here."""

import json
from collections.abc import Sequence
from typing import Any

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trainyard.core import disk, errors
from trainyard.core.http import dialects
from trainyard.core.http.dialects import Dialect
from trainyard.core.http.routing import DialectMap

_log = structlog.get_logger("http")

_HALF_A_PAIR = "The request holds half of a surrogate pair (such as \\ud800 alone), which is no text"

_SHOWN_INPUT_CHARACTERS = 100

_OF_STATUS: dict[int, type[errors.TrainyardError]] = {
    400: errors.InvalidRequest,
    401: errors.Unauthenticated,
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.Conflict,
    413: errors.TooLarge,
    422: errors.InvalidRequest,
    429: errors.LimitReached,
    503: errors.Unavailable,
}


class ErrorEdge:
    """Pure ASGI middleware around the application; the only place where a request's exceptions end."""

    def __init__(self, app: ASGIApp, dialect_map: DialectMap) -> None:
        self._app = app
        self._dialects = dialect_map

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and answer whatever comes out of it as an exception."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_started = False

        async def watching(message: Message) -> None:
            nonlocal has_started
            has_started = has_started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watching)
        except ClientDisconnect:
            return  # nobody is left to answer
        except Exception as error:
            if has_started:
                _log.error("failed_after_start", exc_info=error)
                raise  # the server closes the connection, so that the client does not take a torso for the whole
            await answer(error, scope, self._dialects)(scope, receive, send)


def answer(error: Exception, scope: Scope, dialect_map: DialectMap) -> Response:
    """Make the answer to an exception, and log it when it is our fault."""
    known, status = translate(error)
    dialect: Dialect = dialect_map.of(scope["path"])
    rendered = dialects.render(known, dialect, scope.get("state", {}).get("request_id"), status=status)
    if rendered.status >= 500 and not isinstance(known, errors.Unavailable | errors.DeadlineExceeded):
        _log.error("request_failed", path=scope["path"], exc_info=error)
    headers = {**_kept_headers(error), **rendered.headers}
    # Escaped to ASCII: what a client sent may hold halves of surrogate pairs, which UTF-8 cannot carry.
    content = json.dumps(rendered.body, ensure_ascii=True, separators=(",", ":"))
    return Response(content, status_code=rendered.status, headers=headers, media_type="application/json")


def translate(error: Exception) -> tuple[errors.TrainyardError, int | None]:
    """Bring any exception into the family; the status is given where the framework has decided it."""
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]  # what a task group wraps around the one thing that failed
    if isinstance(error, errors.TrainyardError):
        return error, None
    if isinstance(error, RequestValidationError):
        return of_validation(error.errors()), None
    if isinstance(error, HTTPException):
        known = _of_cause(error.__cause__)
        return (known, None) if known else (_of_http(error), error.status_code)
    if isinstance(error, TimeoutError):
        return errors.DeadlineExceeded(), None
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        return errors.InvalidRequest(_HALF_A_PAIR, code="invalid_text"), None  # only a client can have made it
    return disk.full(error) or errors.TrainyardError(), None


def _of_cause(cause: BaseException | None) -> errors.TrainyardError | None:
    """Bring what happened while FastAPI read a body, which it wraps, into the family; None for anything else."""
    if isinstance(cause, errors.TrainyardError):
        return cause
    if isinstance(cause, RecursionError):
        return errors.InvalidRequest("The body is nested too deeply", code="invalid_json")
    if isinstance(cause, UnicodeDecodeError):
        return errors.InvalidRequest("The body is not valid UTF-8", code="invalid_json")
    if isinstance(cause, ValueError):  # what `int` refuses to read
        return errors.InvalidRequest("The body holds a number with too many digits", code="invalid_json")
    return None


def of_validation(faults: Sequence[Any]) -> errors.InvalidRequest:
    """Turn FastAPI's list of faults into one error that names the first field and keeps the list.

    Long input is left out: it can be megabytes, and it can be private.
    """
    shown = [_fault(fault) for fault in faults]
    first = shown[0]
    loc = first["loc"]
    path = _path(loc[1:] if loc and loc[0] in ("body", "query", "path", "header", "cookie") else loc)
    if first["type"] == "json_invalid":
        message, path, code = f"The body is not valid JSON: {first['msg']}", "", "invalid_json"
    else:
        message, code = f"{path or loc[0]}: {first['msg']}", None
    return errors.InvalidRequest(message, code=code, param=path or None, data={dialects.FIELD_ERRORS: shown})


def _fault(fault: Any) -> dict[str, Any]:
    shown = {"type": fault["type"], "loc": list(fault["loc"]), "msg": fault["msg"]}
    value = fault.get("input")
    if value is None or (isinstance(value, bool | int | float | str) and len(str(value)) <= _SHOWN_INPUT_CHARACTERS):
        shown["input"] = (
            value if not isinstance(value, float) or (value == value and abs(value) != float("inf")) else str(value)
        )
    return shown


def _path(loc: Sequence[Any]) -> str:
    path = ""
    for part in loc:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    return path


def _of_http(error: HTTPException) -> errors.TrainyardError:
    cls = _OF_STATUS.get(error.status_code)
    if error.status_code == 404 and error.detail == "Not Found":
        return errors.NotFound("There is no such path; /docs lists all of them", code="unknown_path")
    if error.status_code == 405:
        allowed = dict(error.headers or {}).get("Allow", "others")
        return errors.InvalidRequest(
            f"This path does not take this method; it takes {allowed}", code="method_not_allowed"
        )
    if cls is None:
        cls = errors.InvalidRequest if error.status_code < 500 else errors.TrainyardError
    return cls(str(error.detail))


def _kept_headers(error: Exception) -> dict[str, str]:
    return dict(error.headers or {}) if isinstance(error, HTTPException) else {}


async def on_framework_error(request: Request, error: Exception) -> Response:
    """Handler for the exceptions that FastAPI would otherwise answer in its own shape."""
    return answer(error, request.scope, request.app.state.dialect_map)
