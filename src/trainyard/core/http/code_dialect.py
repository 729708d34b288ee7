"""The body of an error as clients of the code interpreter read it.

`error` is the message, but for 429, where LibreChat looks for `rate_limited` and `retry_after_seconds`; it recognises
what an environment cannot do by `code`.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from trainyard.core import errors

_KIND: Final[Mapping[int, str]] = {
    401: "authentication",
    403: "authorization",
    404: "resource_not_found",
    409: "resource_conflict",
    429: "rate_limited",
    502: "external_service",
    503: "service_unavailable",
    504: "timeout",
}


def body(
    error: errors.TrainyardError, status: int, message: str, code: str, faults: Sequence[Any], request_id: str | None
) -> dict[str, object]:
    """Put an error together.

    Args:
        error: For its field and the time to wait.
        status: Of the answer.
        message: What may be said of it.
        code: Likewise.
        faults: Faulty fields in FastAPI's form, where a framework found them.
        request_id: Of the request.
    """
    is_limit = status == 429
    made: dict[str, object] = {
        "error": "rate_limited" if is_limit else message,
        "error_type": _kind(error, status),
        "code": code,
        "message": message,
        "details": _details(error, status, message, code, faults),
        "request_id": request_id,
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    }
    if is_limit and error.retry_after_s is not None:
        made["retry_after_seconds"] = max(1, math.ceil(error.retry_after_s))
    return made


def _kind(error: errors.TrainyardError, status: int) -> str:
    if isinstance(error, errors.QuotaExhausted):
        return "resource_exhausted"
    return _KIND.get(status, "validation" if status < 500 else "internal_server")


def _details(
    error: errors.TrainyardError, status: int, message: str, code: str, faults: Sequence[Any]
) -> list[dict[str, object]]:
    if faults:
        return [
            {"field": _field(fault.get("loc", ())), "message": fault.get("msg"), "code": fault.get("type", code)}
            for fault in faults
        ]
    if status >= 500:
        return []
    return [{"field": error.param, "message": message, "code": code}]


def _field(loc: Sequence[Any]) -> str | None:
    """Write FastAPI's place of a fault without the part of the request that it is in."""
    return ".".join(str(step) for step in loc[1:]) or None
