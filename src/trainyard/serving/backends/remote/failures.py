"""What can go wrong with an upstream, in the words of our own errors; no address, key or prompt is in them."""

from enum import StrEnum

from trainyard.core import errors

_SHOWN_CHARS = 300


class Outcome(StrEnum):
    """Of one attempt, as the metrics have it."""

    OK = "ok"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    FAILED = "failed"
    GARBAGE = "garbage"
    DROPPED = "dropped"
    REJECTED = "rejected"
    LATE = "late"  # the request's own time was over first
    CANCELLED = "cancelled"


class AttemptFailed(Exception):
    """One attempt at an upstream failed before anything of its answer was passed on.

    Attributes:
        error: For the caller, if nobody tries again.
        outcome: For the metrics.
        may_repeat: The same request may be sent there again.
    """

    def __init__(self, error: errors.TrainyardError, outcome: Outcome, *, may_repeat: bool = False) -> None:
        self.error = error
        self.outcome = outcome
        self.may_repeat = may_repeat
        super().__init__(error.message)


def failed(model: str, what: str, *, code: str | None = None) -> errors.UpstreamFailed:
    """Say what the server behind a model did."""
    return errors.UpstreamFailed(f"The server behind {model} {what}", code=code, data={"model": model})


def garbage(model: str) -> AttemptFailed:
    """Say that what came cannot be read."""
    what = failed(model, "answered with something that is no answer in its dialect", code="upstream_answer_unreadable")
    return AttemptFailed(what, Outcome.GARBAGE)


def overloaded(model: str, retry_after_s: float) -> errors.Unavailable:
    """Say that a server takes no more for now."""
    return errors.Unavailable(
        f"The server behind {model} is overloaded; send the request again later",
        code="upstream_overloaded",
        retry_after_s=retry_after_s,
        data={"model": model},
    )


def resting(model: str, wait_s: float) -> errors.Unavailable:
    """Say that a server failed so often that nobody is sent there for now."""
    return errors.Unavailable(
        f"The server behind {model} failed several times in a row and is left alone for now",
        code="upstream_unavailable",
        retry_after_s=max(1.0, wait_s),
        data={"model": model},
    )


def out_of_time(model: str) -> errors.DeadlineExceeded:
    """Say that the request's own time ended first."""
    return errors.DeadlineExceeded(f"The server behind {model} did not answer in the time of this request")


def by_status(model: str, status: int, said: str, said_code: str, retry_after_s: float | None) -> AttemptFailed:
    """Read an answer that is none.

    Args:
        model: Catalog name.
        status: Of the answer, not 200.
        said: Its message, with the key taken out; passed on only where the request is at fault.
        said_code: Its machine-readable code, or empty.
        retry_after_s: What the server asked for.
    """
    if status == 429:
        busy = overloaded(model, 1.0 if retry_after_s is None else retry_after_s)
        return AttemptFailed(busy, Outcome.OVERLOADED, may_repeat=True)
    if status in (400, 422):
        return AttemptFailed(_rejected(model, said, said_code), Outcome.REJECTED)
    if status == 413:
        large = errors.TooLarge(f"The request is larger than the server behind {model} accepts")
        return AttemptFailed(large, Outcome.REJECTED)
    if status in (401, 403):
        refused = failed(model, "refused this server's key; its operator has to look", code="upstream_key_refused")
        return AttemptFailed(refused, Outcome.FAILED)
    if status == 404:
        missing = failed(model, "does not know it; its operator has to look", code="upstream_model_missing")
        return AttemptFailed(missing, Outcome.FAILED)
    answered = failed(model, f"answered with status {status}")
    answered.retry_after_s = retry_after_s
    return AttemptFailed(answered, Outcome.FAILED, may_repeat=status in (502, 503, 504))


def _rejected(model: str, said: str, said_code: str) -> errors.InvalidRequest:
    text = " ".join(said.split())[:_SHOWN_CHARS]
    is_length = "context_length" in said_code or "context length" in said.lower()
    return errors.InvalidRequest(
        f"The server behind {model} refused the request{f': {text}' if text else ''}",
        code="context_length_exceeded" if is_length else "upstream_rejected",
    )
