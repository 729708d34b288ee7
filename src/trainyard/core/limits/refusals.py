"""Why a request is not let in, as every limiter tells it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from trainyard.core import errors
from trainyard.core.limits.types import Amount, Standing

Dimension = Literal["requests", "tokens", "concurrency", "quota_tokens", "quota_cost"]

BUSY_RETRY_S = 1.0
"""Advice where running work has to end first, which nobody can foresee."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One bar that a request does not pass.

    Attributes:
        subject: Name of the subject whose bar it is.
        limit: The bar.
        used: What counts against it and has ended.
        held: What is held by work that runs.
        retry_after_s: When the same call passes this bar if nothing else is sent; None: never, it takes more than the
            bar by itself.
        reset_at: When the quota begins anew, Unix seconds; None for bars of a window.
    """

    subject: str
    dimension: Dimension
    limit: int
    used: int
    held: int
    retry_after_s: float | None
    reset_at: int | None = None


def retry_after_s(seconds: float) -> float:
    """Round a wait up to a whole millisecond beyond it, so that no rounding of clocks makes it too short."""
    return (math.floor(seconds * 1000) + 1) / 1000


def tightest(one: Standing | None, other: Standing | None) -> Standing | None:
    """Choose the standing with less left."""
    if one is None or other is None:
        return one or other
    return other if other.remaining < one.remaining else one


def quota(
    subject: str, dimension: Dimension, limit: int, used: int, held: int, asked: int, until: int, wall_s: float
) -> Refusal:
    """Describe a quota that a request does not pass; what only running work holds may come back before the reset."""
    wait_s: float | None = retry_after_s(until - wall_s)
    if asked > limit:
        wait_s = None
    elif used + asked <= limit:
        wait_s = BUSY_RETRY_S
    elif held + asked > limit:  # what runs counts in the next period too
        wait_s = max(retry_after_s(until - wall_s), BUSY_RETRY_S)
    return Refusal(subject, dimension, limit, used, held, wait_s, until)


def error(refusals: Sequence[Refusal], amount: Amount, window_s: float) -> errors.TrainyardError:
    """Make the one error of all bars that a request does not pass.

    What waiting does not cure comes first, then quotas, then the bar that takes longest; `retry_after_s` is that of the
    last bar to open.
    """
    oversized = [each for each in refusals if each.reset_at is None and each.retry_after_s is None]
    if oversized:
        return _oversized(oversized[0], amount, window_s)
    longest = max(refusals, key=_hardness)
    waits = [each.retry_after_s for each in refusals]
    wait_s = None if None in waits else max(wait for wait in waits if wait is not None)
    if longest.reset_at is None:
        return _limit_reached(longest, amount, window_s, wait_s or BUSY_RETRY_S)
    return _quota_exhausted(longest, longest.reset_at, amount, wait_s)


def _hardness(refusal: Refusal) -> tuple[bool, float]:
    wait_s = math.inf if refusal.retry_after_s is None else refusal.retry_after_s
    return refusal.reset_at is not None, wait_s


def _oversized(refusal: Refusal, amount: Amount, window_s: float) -> errors.InvalidRequest:
    who = _who(refusal.subject)
    if refusal.dimension == "tokens":
        told = (
            f"This request takes up to {amount.tokens} tokens, and {who} may use {refusal.limit} per {window_s:g} s; "
            "ask for fewer new tokens (what is not named is what the model allows), or send a shorter prompt"
        )
    else:
        told = f"The limit of {refusal.dimension} of {who} is {refusal.limit}, so that nothing is let in"
    data = {"scope": refusal.subject, "dimension": refusal.dimension, "limit": refusal.limit}
    return errors.InvalidRequest(told, code="request_exceeds_limit", data=data)


def _limit_reached(refusal: Refusal, amount: Amount, window_s: float, wait_s: float) -> errors.LimitReached:
    who, left = _who(refusal.subject), max(0, refusal.limit - refusal.used - refusal.held)
    if refusal.dimension == "requests":
        told = f"The limit of {who} is {refusal.limit} requests per {window_s:g} s"
    elif refusal.dimension == "concurrency":
        told = f"The limit of {who} is {refusal.limit} requests at the same moment"
    else:
        told = (
            f"The limit of {who} is {refusal.limit} tokens per {window_s:g} s; {left} are left, and this request takes "
            f"up to {amount.tokens}"
        )
    data = {"scope": refusal.subject, "dimension": refusal.dimension, "limit": refusal.limit, "remaining": left}
    return errors.LimitReached(f"{told}; retry in {wait_s:.3f} s", retry_after_s=wait_s, data=data)


def _quota_exhausted(refusal: Refusal, reset_at: int, amount: Amount, wait_s: float | None) -> errors.QuotaExhausted:
    is_cost = refusal.dimension == "quota_cost"
    unit, asked = ("micros", amount.cost_micros) if is_cost else ("tokens", amount.tokens)
    held = f", {refusal.held} are held by work that runs" if refusal.held else ""
    begins = datetime.fromtimestamp(reset_at, UTC).isoformat()
    hint = "" if is_cost or asked <= refusal.limit else "; ask for fewer new tokens"
    told = (
        f"The quota of {_who(refusal.subject)} is {refusal.limit} {unit} a month: {refusal.used} are used{held}, and "
        f"this request takes up to {asked}{hint}; the next month begins at {begins}"
    )
    data = {
        "scope": refusal.subject,
        "dimension": "cost" if is_cost else "tokens",
        "limit": refusal.limit,
        "used": refusal.used,
        "held": refusal.held,
        "reset_at": reset_at,
    }
    return errors.QuotaExhausted(told, retry_after_s=wait_s, data=data)


def _who(subject: str) -> str:
    kind, _, name = subject.partition(":")
    return "this key" if kind == "key" else f"{kind} {name}"
