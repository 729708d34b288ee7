"""Refusals in the form that the API server gives them: a `Status` object."""

from typing import Any


class Refused(Exception):
    """One request that is answered with a `Status`."""

    def __init__(
        self,
        code: int,
        reason: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message
        self.details = dict(details or {})
        self.retry_after_s = retry_after_s
        if retry_after_s is not None:
            self.details["retryAfterSeconds"] = retry_after_s

    def status(self) -> dict[str, Any]:
        body: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        body |= {"message": self.message, "reason": self.reason, "code": self.code}
        return body | ({"details": self.details} if self.details else {})


def not_found(resource: str, name: str) -> Refused:
    return Refused(404, "NotFound", f'{resource} "{name}" not found', details={"name": name, "kind": resource})


def conflict(resource: str, name: str) -> Refused:
    text = (
        f'Operation cannot be fulfilled on {resource} "{name}": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )
    return Refused(409, "Conflict", text, details={"name": name, "kind": resource})


def exists(resource: str, name: str) -> Refused:
    return Refused(
        409, "AlreadyExists", f'{resource} "{name}" already exists', details={"name": name, "kind": resource}
    )


def forbidden(resource: str, name: str, why: str) -> Refused:
    return Refused(
        403, "Forbidden", f'{resource} "{name}" is forbidden: {why}', details={"name": name, "kind": resource}
    )


def expired(asked: int, oldest: int) -> Refused:
    return Refused(410, "Expired", f"too old resource version: {asked} ({oldest})")


TOO_MANY = "the server has received too many requests and has asked us to try again later"
