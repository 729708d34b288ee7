"""What a call can end with instead of a result: one exception per reaction of the caller."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx


class TrainyardAPIError(Exception):
    """The server, or the way to it, refused a call.

    Attributes:
        message: What happened and what would be right, in the server's words.
        status_code: HTTP status; None when no answer came.
        response_data: The decoded body of the answer; empty when it was not a JSON object.
        code: Machine-readable reason such as `no_gradients`; None when the answer named none.
        request_id: Finds the request in the server's log; None when no answer came.
        retry_after_s: Seconds after which the same call can succeed, where the server said so.
    """

    def __init__(
        self,
        message: str,
        status_code: int | None = None,
        response_data: Mapping[str, Any] | None = None,
        *,
        code: str | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.response_data = dict(response_data or {})
        self.code = code
        self.request_id = request_id
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message if self.status_code is None else f"[{self.status_code}] {self.message}"


class AuthenticationError(TrainyardAPIError):
    """401: no usable key; give a valid one."""


class AuthorizationError(TrainyardAPIError):
    """403: the key is valid but does not allow this."""


class NotFoundError(TrainyardAPIError):
    """404: there is no such thing, or it is not yours."""


class ConflictError(TrainyardAPIError):
    """409: the state of the run does not allow this now."""


class ValidationError(TrainyardAPIError):
    """400, 413 or 422: correct the request."""


class QuotaError(TrainyardAPIError):
    """402: a quota is used up; wait for its reset, which `response_data` names, or have it raised."""


class RateLimitError(TrainyardAPIError):
    """429: a limit is reached; wait `retry_after_s` or free something."""


class ServerError(TrainyardAPIError):
    """5xx: the server, or a part of it, failed or is away."""


class ConnectionError(TrainyardAPIError):
    """No answer came: the server is not there, or went away during the call."""


class TimeoutError(TrainyardAPIError):
    """No answer came in the time allowed; the call may still be at work on the server."""


BY_STATUS: Mapping[int, type[TrainyardAPIError]] = {
    400: ValidationError,
    401: AuthenticationError,
    402: QuotaError,
    403: AuthorizationError,
    404: NotFoundError,
    409: ConflictError,
    413: ValidationError,
    422: ValidationError,
    429: RateLimitError,
}


def from_response(response: httpx.Response) -> TrainyardAPIError:
    """Build the exception that an answer of status 400 or more stands for; its body must have been read."""
    data = _json_object(response)
    message, code = describe(data)
    status = response.status_code
    kind = BY_STATUS.get(status, ServerError if status >= 500 else TrainyardAPIError)
    return kind(
        message or response.text.strip() or response.reason_phrase,
        status,
        data,
        code=code,
        request_id=data.get("request_id") or response.headers.get("x-request-id"),
        retry_after_s=_seconds(response.headers.get("retry-after")),
    )


def describe(data: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Find (message, code) in an error body of any of the server's dialects."""
    error = data.get("error")
    inner = error if isinstance(error, Mapping) else {"message": data.get("message") or error}
    message = inner.get("message") or data.get("message") or data.get("detail")
    code = inner.get("code") or data.get("code")
    return (None if message is None else str(message)), (None if code is None else str(code))


@contextmanager
def translated() -> Iterator[None]:
    """Turn the transport's exceptions into those of this module, the cause kept."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise TimeoutError(f"no answer in time: {_request_line(error)}") from error
    except httpx.TransportError as error:
        raise ConnectionError(f"no connection: {_request_line(error)}: {error}") from error


def _request_line(error: httpx.RequestError) -> str:
    return f"{error.request.method} {error.request.url}"


def _json_object(response: httpx.Response) -> dict[str, Any]:
    try:
        data = response.json()
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}


def _seconds(header: str | None) -> float | None:
    try:
        return None if header is None else float(header)
    except ValueError:
        return None
