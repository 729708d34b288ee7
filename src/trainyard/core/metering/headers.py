"""Where a caller stands, as header fields: OpenAI's `x-ratelimit-*`, and `RateLimit` with `RateLimit-Policy`.

The latter two are structured fields of draft-ietf-httpapi-ratelimit-headers-10: lists of items named by quoted strings,
with `q` (bar), `qu` (unit, requests when left out), `w` (window, s), `r` (left) and `t` (s until all is there again).
"""

import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

from trainyard.core.limits.types import Passed, Standing

_ROUNDING = 1e-6
"""Milliseconds that a sum of floats may be too large by."""

WINDOW_S = "window_s"
"""Key of `error.data` for the length of the window, where a bar of a window is the reason."""


def of_passed(passed: Passed, window_s: float) -> bytes:
    """Write the headers of an answer as `head_lines`; none for bars that do not exist."""
    requests, tokens = passed.requests, passed.tokens
    if requests is not None and tokens is not None:
        left, its_reset, more, their_reset = (
            requests.remaining,
            _reset_of(requests),
            tokens.remaining,
            _reset_of(tokens),
        )
        numbers = (left, its_reset.duration, more, their_reset.duration)
        return _form(requests.limit, tokens.limit, window_s) % (
            *numbers,
            left,
            its_reset.whole_s,
            more,
            their_reset.whole_s,
        )
    only = requests or tokens
    if only is None:
        return b""
    left, reset = only.remaining, _reset_of(only)
    form = _form(requests and requests.limit, tokens and tokens.limit, window_s)
    return form % (left, reset.duration, left, reset.whole_s)


def of_refusal(data: Mapping[str, object], retry_after_s: float | None) -> dict[str, str]:
    """Write the headers of a 429 or 402 from the facts of the error; none when they do not name a bar.

    Args:
        data: Of the error, as `Limiter.reserve` describes it, and `WINDOW_S` where there is one.
        retry_after_s: Of the error; with it, `t` is the same moment as `Retry-After`.
    """
    dimension, limit = data.get("dimension"), data.get("limit")
    if not isinstance(dimension, str) or dimension not in _UNITS or not isinstance(limit, int):
        return {}
    left = _remaining(data, limit)
    name, is_window = (dimension, True) if "reset_at" not in data else (f"monthly-{dimension}", False)
    reset = "" if retry_after_s is None else f";t={_whole(retry_after_s)}"
    window = data.get(WINDOW_S) if dimension != "concurrency" else None
    policy = f'"{name}";q={limit}{_UNITS[dimension]}'
    policy += f";w={_whole(window)}" if isinstance(window, int | float) else ""
    made = {"RateLimit": f'"{name}";r={left}{reset}', "RateLimit-Policy": policy}
    if is_window and dimension in ("requests", "tokens"):
        made[f"x-ratelimit-limit-{dimension}"] = str(limit)
        made[f"x-ratelimit-remaining-{dimension}"] = str(left)
        made[f"x-ratelimit-reset-{dimension}"] = duration(retry_after_s or 0.0)
    return made


def _remaining(data: Mapping[str, object], limit: int) -> int:
    """Find what is left: told for a window, the rest of used and held for a quota."""
    remaining = data.get("remaining")
    if isinstance(remaining, int):
        return remaining
    taken = sum(value for name in ("used", "held") if isinstance(value := data.get(name), int))
    return max(0, limit - taken)


def duration(seconds: float) -> str:
    """Write a duration as OpenAI does: `0s`, `12ms`, `1s`, `1.5s`, `6m0s`, `2h0m30s`; rounded up to milliseconds."""
    return _duration(math.ceil(seconds * 1000 - _ROUNDING))


def _duration(millis: int) -> str:
    if millis < 1000:
        return f"{millis}ms" if millis > 0 else "0s"
    whole, millis = divmod(millis, 1000)
    shown = str(whole % 60)
    if millis:
        shown = f"{shown}.{millis:03}".rstrip("0")
    if whole < 60:
        return f"{shown}s"
    minutes = whole // 60
    return f"{minutes}m{shown}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60}m{shown}s"


class _Reset(NamedTuple):
    """When all of a bar is there again, in both ways of writing it."""

    duration: bytes
    whole_s: int


@functools.lru_cache(maxsize=4096)
def _reset(millis: int) -> _Reset:
    return _Reset(_duration(millis).encode(), max(0, -(-millis // 1000)))


_UNITS = {"requests": "", "tokens": ';qu="tokens"', "cost": ';qu="micros"', "concurrency": ';qu="concurrent-requests"'}


def _reset_of(standing: Standing) -> _Reset:
    return _reset(math.ceil(standing.reset_s * 1000 - _ROUNDING))


@functools.lru_cache(maxsize=1024)
def _form(requests: int | None, tokens: int | None, window_s: float) -> bytes:
    """Write what stays the same from answer to answer.

    There are places for what is left and when all is there again, in OpenAI's words for each bar, then in IETF's.
    """
    window = f";w={_whole(window_s)}"
    bars = [("requests", requests, ""), ("tokens", tokens, ';qu="tokens"')]
    there = [(name, limit, unit) for name, limit, unit in bars if limit is not None]
    lines = [f"x-ratelimit-limit-{name}: {limit}" for name, limit, _ in there]
    lines.append("ratelimit-policy: " + ", ".join([f'"{name}";q={limit}{unit}{window}' for name, limit, unit in there]))
    for name, _, _ in there:
        lines += [f"x-ratelimit-remaining-{name}: %d", f"x-ratelimit-reset-{name}: %b"]
    lines.append("ratelimit: " + ", ".join([f'"{name}";r=%d;t=%d' for name, _, _ in there]))
    return "".join([f"{line}\r\n" for line in lines]).encode()


def _whole(seconds: float) -> int:
    return max(0, math.ceil(seconds))
