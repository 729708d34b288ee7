"""Where a caller stands, as header fields: OpenAI's `x-ratelimit-*`, and `RateLimit` with `RateLimit-Policy`.

The latter two are structured fields of draft-ietf-httpapi-ratelimit-headers-10: lists of items named by quoted strings,
with `q` (bar), `qu` (unit, requests when left out), `w` (window, s), `r` (left) and `t` (s until all is there again).
"""

import functools
import math
from collections.abc import Mapping

from trainyard.core.limits.types import Reservation, Standing

Headers = tuple[tuple[bytes, bytes], ...]

WINDOW_S = "window_s"
"""Key of `error.data` for the length of the window, where a bar of a window is the reason."""


def of_reservation(reservation: Reservation, window_s: float) -> Headers:
    """Write the headers of an answer; none for bars that do not exist."""
    requests, tokens = reservation.requests, reservation.tokens
    if requests is None and tokens is None:
        return ()
    made: list[tuple[bytes, bytes]] = []
    if requests is not None:
        made += _openai("requests", requests.limit, requests.remaining, requests.reset_s)
    if tokens is not None:
        made += _openai("tokens", tokens.limit, tokens.remaining, tokens.reset_s)
    policy = _policies(requests and requests.limit, tokens and tokens.limit, window_s)
    made += [(b"ratelimit", _left(requests, tokens)), (b"ratelimit-policy", policy)]
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
        shown = _openai(dimension, limit, left, retry_after_s or 0.0)
        made |= {key.decode(): value.decode() for key, value in shown}
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
    millis = math.ceil(seconds * 1000 - 1e-6)
    if millis <= 0:
        return "0s"
    if millis < 1000:
        return f"{millis}ms"
    whole, millis = divmod(millis, 1000)
    minutes, secs = divmod(whole, 60)
    shown = f"{secs}.{millis:03}".rstrip("0") if millis else str(secs)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{shown}s"
    return f"{minutes}m{shown}s" if minutes else f"{shown}s"


_UNITS = {"requests": "", "tokens": ';qu="tokens"', "cost": ';qu="micros"', "concurrency": ';qu="concurrent-requests"'}


def _openai(dimension: str, limit: int, remaining: int, reset_s: float) -> list[tuple[bytes, bytes]]:
    name_limit, name_remaining, name_reset = _names(dimension)
    return [
        (name_limit, b"%d" % limit),
        (name_remaining, b"%d" % remaining),
        (name_reset, duration(reset_s).encode()),
    ]


@functools.cache
def _names(dimension: str) -> tuple[bytes, bytes, bytes]:
    limit, remaining, reset = (f"x-ratelimit-{what}-{dimension}".encode() for what in ("limit", "remaining", "reset"))
    return limit, remaining, reset


@functools.lru_cache(maxsize=1024)
def _policies(requests: int | None, tokens: int | None, window_s: float) -> bytes:
    window = f";w={_whole(window_s)}"
    items = [] if requests is None else [f'"requests";q={requests}{window}']
    items += [] if tokens is None else [f'"tokens";q={tokens};qu="tokens"{window}']
    return ", ".join(items).encode()


def _left(requests: Standing | None, tokens: Standing | None) -> bytes:
    items = []
    if requests is not None:
        items.append(b'"requests";r=%d;t=%d' % (requests.remaining, _whole(requests.reset_s)))
    if tokens is not None:
        items.append(b'"tokens";r=%d;t=%d' % (tokens.remaining, _whole(tokens.reset_s)))
    return b", ".join(items)


def _whole(seconds: float) -> int:
    return max(0, math.ceil(seconds))
