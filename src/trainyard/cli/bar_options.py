"""Limits and quotas on the command line: the options, and the patch that those which were given stand for."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import typer

from trainyard.core.keys import UNLIMITED

MICROS = 1_000_000
"""Of one unit of the currency."""

TAKEN_BACK = ("default", "none", "never")
"""Words for a value that is to be not set."""

_KEY_WORDS = "; unlimited = no bar, default = the server's."
_TENANT_WORDS = ", over all keys of the tenant; none = no bar."

Requests = Annotated[str | None, typer.Option(metavar="N", help=f"Requests per window{_KEY_WORDS}")]
Tokens = Annotated[str | None, typer.Option(metavar="N", help=f"Tokens per window{_KEY_WORDS}")]
Concurrency = Annotated[str | None, typer.Option(metavar="N", help=f"Requests at the same moment{_KEY_WORDS}")]
TenantRequests = Annotated[
    str | None, typer.Option("--requests", metavar="N", help=f"Requests per window{_TENANT_WORDS}")
]
TenantTokens = Annotated[str | None, typer.Option("--tokens", metavar="N", help=f"Tokens per window{_TENANT_WORDS}")]
TenantConcurrency = Annotated[
    str | None, typer.Option("--concurrency", metavar="N", help=f"Requests at the same moment{_TENANT_WORDS}")
]
QuotaTokens = Annotated[str | None, typer.Option(metavar="N", help="Tokens per month; none = no bar.")]
QuotaCost = Annotated[
    str | None, typer.Option(metavar="AMOUNT", help="Currency per month, such as 12.50; none = no bar.")
]
QuotaZone = Annotated[
    str | None,
    typer.Option(metavar="ZONE", help="IANA name of the zone where months begin; default = the server's."),
]
QuotaDay = Annotated[
    str | None, typer.Option(metavar="DAY", help="Day on which the quota's month begins; default = the first.")
]
QuotaResetAt = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="A moment at which the quota's month begins, in place of a day: ISO 8601 (UTC when it names no zone) or "
        "Unix seconds; none = by the day.",
    ),
]


def limits(requests: str | None, tokens: str | None, concurrency: str | None) -> dict[str, Any]:
    """Read the options of limits that were given."""
    given = {"requests": requests, "tokens": tokens, "concurrency": concurrency}
    return {name: _read(f"--{name}", text, _limit) for name, text in given.items() if text is not None}


def quota(
    tokens: str | None, cost: str | None, zone: str | None, day: str | None, reset_at: str | None
) -> dict[str, Any]:
    """Read the options of quotas that were given."""
    options: list[tuple[str, str, str | None, Callable[[str], object]]] = [
        ("tokens", "--quota-tokens", tokens, int),
        ("cost_micros", "--quota-cost", cost, _micros),
        ("time_zone", "--quota-zone", zone, str),
        ("day", "--quota-day", day, int),
        ("reset_at", "--quota-reset-at", reset_at, _moment),
    ]
    return {name: _read(option, text, read) for name, option, text, read in options if text is not None}


def _read(option: str, text: str, read: Callable[[str], object]) -> object:
    if text in TAKEN_BACK:
        return None
    try:
        return read(text)
    except (ValueError, InvalidOperation, OverflowError) as error:
        raise typer.BadParameter(f"{text[:40]!r} cannot be read; see --help", param_hint=option) from error


def _limit(text: str) -> int:
    if text == "unlimited":
        return UNLIMITED
    number = int(text)
    if number == UNLIMITED:
        raise ValueError("0 would let nothing through")
    return number


def _micros(text: str) -> int:
    micros = Decimal(text) * MICROS
    if micros != int(micros):
        raise ValueError("finer than a millionth")
    return int(micros)


def _moment(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
