"""Headers in the OpenAPI document: what a caller may send beside a body, and what an answer says beside one."""

from collections.abc import Mapping, Sequence
from typing import Any

Headers = Mapping[str, Mapping[str, Any]]


def _header(description: str, **schema: object) -> dict[str, Any]:
    return {"description": description, "schema": {"type": "string", **schema}}


_DURATION = r"^([0-9]+ms|([0-9]+h)?([0-9]+m)?[0-9]+(\.[0-9]+)?s)$"
_WAIT = _header(
    "Seconds after which the same request can succeed; absent when waiting does not help.", type="integer", minimum=1
)
_STANDINGS: Headers = {
    "RateLimit": _header(
        'What is left (`r`) of each bar and in how many seconds all of it is there again (`t`): `"requests";r=59;t=1`. '
        "Absent where no bar of the key or its tenant has to do with it."
    ),
    "RateLimit-Policy": _header(
        "The bars: how much (`q`) of what (`qu`; requests when left out) in how many seconds (`w`): "
        '`"requests";q=60;w=60`.'
    ),
}
_CHALLENGE: Headers = {"WWW-Authenticate": _header("`Bearer`, with `error` where a key came and is no good.")}


def _openai() -> dict[str, dict[str, Any]]:
    """Describe the headers that OpenAI's clients read; each is absent where the key and its tenant have no such bar."""
    made = {}
    for what in ("requests", "tokens"):
        made[f"x-ratelimit-limit-{what}"] = _header(f"Most {what} per window.", type="integer", minimum=1)
        made[f"x-ratelimit-remaining-{what}"] = _header(f"Left of these {what}.", type="integer", minimum=0)
        made[f"x-ratelimit-reset-{what}"] = _header(
            f"Until all {what} are there again: `12ms`, `1.5s`, `6m0s`.", pattern=_DURATION
        )
    return made


_BARS: Headers = {**_STANDINGS, **_openai()}
_OF_ERROR: Mapping[int, Headers] = {
    401: _CHALLENGE,
    402: {"Retry-After": _WAIT, **_STANDINGS},
    429: {"Retry-After": _WAIT, **_BARS},
    503: {"Retry-After": _WAIT},
}

_REQUEST_ID = _header("Names the request, in its answer and in the log.", pattern="^[A-Za-z0-9_.:-]{1,64}$")
_CACHE = _header(
    "`hit`: kept before; `joined`: made by an equal request of the same moment; `miss`: computed; `bypass`: the cache "
    "had nothing to do with it.",
    enum=["hit", "joined", "miss", "bypass"],
)
_REPLAYED = _header("`true` where the answer was given before under this `Idempotency-Key`.", enum=["true"])


def of_error(status: int) -> dict[str, Any]:
    """Describe what an error says in headers."""
    return dict(_OF_ERROR.get(status, {}))


def of_success(*, is_metered: bool, is_idempotent: bool, caches: bool) -> dict[str, Any]:
    """Describe what a hot route's answer says in headers.

    Args:
        is_metered: Limits hold for the route.
        is_idempotent: It takes `Idempotency-Key`.
        caches: It can answer with what was kept.
    """
    made: dict[str, Any] = {"X-Request-ID": _REQUEST_ID}
    if caches:
        made["x-trainyard-cache"] = _CACHE
    if is_idempotent:
        made["Idempotent-Replayed"] = _REPLAYED
    return {**made, **_BARS} if is_metered else made


def of_request(*, is_idempotent: bool, caches: bool) -> Sequence[Mapping[str, Any]]:
    """Describe the headers that a hot route reads, as parameters; the key stands under `security`."""
    made = [_parameter("X-Request-ID", "Names the request; another name is made when this is none.")]
    if is_idempotent:
        said = "Under one name a request is done once: sent again it gets the first answer; another body is 409."
        made.append(_parameter("Idempotency-Key", said, minLength=1, maxLength=255, pattern="^[ -~]+$"))
    if caches:
        said = (
            "`no-store`: neither take a kept answer nor keep this one; `no-cache`: only keep; `max-age=S`: take one "
            "that is at most so old, also where answers are drawn by chance. Goes before the field `cache`."
        )
        made.append(_parameter("Cache-Control", said))
    return made


def _parameter(name: str, description: str, **schema: object) -> dict[str, Any]:
    shape = {"type": "string", **schema}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": shape}
