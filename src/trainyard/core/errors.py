"""The error family: one class per reaction of the caller, data as attributes, no behaviour.

HTTP status, exit code and the shape of an answer are not here: `core/http/dialects.py` holds that one table.
"""

from collections.abc import Mapping


class TrainyardError(Exception):
    """Something inside trainyard went wrong; report it with the request id."""

    code = "internal_error"

    def __init__(
        self,
        message: str | None = None,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        data: Mapping[str, object] | None = None,
    ) -> None:
        """Keep the facts.

        Args:
            message: What happened and what would be right; the docstring of the class when left out.
            code: Machine-readable reason, snake_case; the code of the class when left out.
            param: The field or flag at fault, as the caller wrote it (`lora_r`, `messages[2].content`).
            retry_after_s: Seconds after which the same call can succeed.
            data: Further facts for the answer, JSON-compatible.
        """
        self.message = message or (type(self).__doc__ or "").split("\n", 1)[0]
        self.code = code or type(self).code
        self.param = param
        self.retry_after_s = retry_after_s
        self.data = dict(data or {})
        super().__init__(self.message)


class InvalidRequest(TrainyardError):
    """The request is malformed; correct it before sending it again."""

    code = "validation_error"


class UnknownModel(InvalidRequest):
    """No such model is served here; choose one of the listed names."""

    code = "model_not_found"


class Unauthenticated(TrainyardError):
    """No usable API key came with the request; send a valid one."""

    code = "invalid_api_key"


class Forbidden(TrainyardError):
    """The key is valid but does not allow this; ask an administrator."""

    code = "forbidden"


class NotFound(TrainyardError):
    """There is no such thing, or it belongs to somebody else."""

    code = "not_found"


class Conflict(TrainyardError):
    """The state of the object does not allow this now; look at its status first."""

    code = "conflict"


class TooLarge(TrainyardError):
    """The body is larger than this server accepts; send less at once."""

    code = "request_too_large"


class LimitReached(TrainyardError):
    """A limit of this key or user is reached; wait or free something."""

    code = "rate_limit_exceeded"


class QuotaExhausted(TrainyardError):
    """The quota of this key or tenant is used up; wait for its reset or have it raised."""

    code = "quota_exhausted"


class UpstreamFailed(TrainyardError):
    """The server behind this model failed; the message names it."""

    code = "upstream_failed"


class Unavailable(TrainyardError):
    """A part that is needed is not up right now; the same request can succeed later."""

    code = "unavailable"


class DeadlineExceeded(TrainyardError):
    """The work did not finish in the time allowed; retry with less work or more time."""

    code = "deadline_exceeded"


class ConfigError(TrainyardError):
    """The configuration cannot be used; correct the named setting."""

    code = "config_error"


class StartupError(TrainyardError):
    """The server cannot start in these surroundings; free what it needs."""

    code = "startup_error"


class SchemaTooNew(StartupError):
    """The database was written by a newer version; install that version or restore a backup."""

    code = "database_too_new"
