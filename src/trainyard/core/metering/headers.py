"""Where a caller stands, as header fields: OpenAI's `x-ratelimit-*`, and `RateLimit` with `RateLimit-Policy`.

The latter two are structured fields of draft-ietf-httpapi-ratelimit-headers-10: lists of items named by quoted strings,
with `q` (bar), `qu` (unit, requests when left out), `w` (window, s), `r` (left) and `t` (s until all is there again).
"""

import functools
import math
from collections.abc import Mapping
from typing import NamedTuple

from trainyard.core.limits.types import Passed

Headers = tuple[tuple[bytes, bytes], ...]

_ROUNDING = 1e-6
"""Milliseconds that a sum of floats may be too large by."""

WINDOW_S = "window_s"
"""Key of `error.data` for the length of the window, where a bar of a window is the reason."""


def of_passed(passed: Passed, window_s: float) -> Headers:
    """Write the headers of an answer; none for bars that do not exist."""
    requests, tokens = passed.requests, passed.tokens
    if requests is None and tokens is None:
        return ()
    made = list(_bars(requests and requests.limit, tokens and tokens.limit, window_s))
    left = []
    if requests is not None:
        reset = _reset(math.ceil(requests.reset_s * 1000 - _ROUNDING))
        made.append((b"x-ratelimit-remaining-requests", b"%d" % requests.remaining))
        made.append((b"x-ratelimit-reset-requests", reset.duration))
        left.append(b'"requests";r=%d;t=%d' % (requests.remaining, reset.whole_s))
    if tokens is not None:
        reset = _reset(math.ceil(tokens.reset_s * 1000 - _ROUNDING))
        made.append((b"x-ratelimit-remaining-tokens", b"%d" % tokens.remaining))
        made.append((b"x-ratelimit-reset-tokens", reset.duration))
        left.append(b'"tokens";r=%d;t=%d' % (tokens.remaining, reset.whole_s))
    made.append((b"ratelimit", b", ".join(left)))
    return tuple(made)


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


@functools.lru_cache(maxsize=1024)
def _bars(requests: int | None, tokens: int | None, window_s: float) -> Headers:
    """Write what stays the same from answer to answer."""
    window = f";w={_whole(window_s)}"
    items, made = [], []
    if requests is not None:
        items.append(f'"requests";q={requests}{window}')
        made.append((b"x-ratelimit-limit-requests", b"%d" % requests))
    if tokens is not None:
        items.append(f'"tokens";q={tokens};qu="tokens"{window}')
        made.append((b"x-ratelimit-limit-tokens", b"%d" % tokens))
    return *made, (b"ratelimit-policy", ", ".join(items).encode())


def _whole(seconds: float) -> int:
    return max(0, math.ceil(seconds))
