"""How keys and tenants look in a terminal."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.markup import escape

from trainyard.cli import output
from trainyard.cli.bar_options import MICROS
from trainyard.core.principal import SCOPES

_TIMES = ("created_at", "expires_at", "revoked_at", "last_used", "updated_at", "reset_at")
_DETAILS = (
    ("scopes", "scopes"),
    ("limits", "limits"),
    ("quota", "quota"),
    ("expires_at", "ends"),
    ("last_used", "used"),
    ("description", "for"),
)
_TITLES = {
    "limits": "own limits",
    "quota": "own quota",
    "effective_limits": "limits in effect",
    "effective_quota": "quota in effect",
}
_LIMITS = (("requests", "requests"), ("tokens", "tokens"), ("concurrency", "at once"))


def keys(found: Sequence[Mapping[str, Any]], *, out: Console | None = None) -> None:
    """Print keys: two lines for each on a terminal, where a table of all columns does not fit; a table elsewhere."""
    out = out or output.console()
    if out.is_terminal:
        _blocks(found, out)
        return
    columns = ("id", "prefix", "tenant", "user_id", "scopes", "status", "limits", "quota", "expires_at", "last_used")
    rows = [[_cell(key, column) for column in (*columns, "description")] for key in found]
    output.table([column.upper() for column in (*columns, "description")], rows, out=out)


def _blocks(found: Sequence[Mapping[str, Any]], out: Console) -> None:
    owners = [f"{key['tenant']}/{key['user_id']}" for key in found]
    width = max(map(len, owners), default=0)
    for key, owner in zip(found, owners, strict=True):
        head = f"{key['id']}  {key['prefix']}  {owner.ljust(width)}  {key['status']}"
        out.print(f"[bold]{escape(head)}[/]", soft_wrap=True)
        details = [f"{word} {text}" for column, word in _DETAILS if (text := _cell(key, column))]
        out.print(f"  [dim]{escape(' · '.join(details))}[/]", soft_wrap=True)


def tenants(found: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of tenants."""
    columns = ("name", "key_count", "limits", "quota", "updated_at")
    rows = [[_cell(tenant, column) for column in columns] for tenant in found]
    output.table(("NAME", "KEYS", "LIMITS", "QUOTA", "UPDATED_AT"), rows, whole=("NAME",))


def facts(shown: Mapping[str, Any]) -> None:
    """Print everything about one key or tenant: what is set for it, and what holds."""
    output.facts({_TITLES.get(name, name): _fact(name, value) for name, value in shown.items() if value != ""})


def second(moment: float | None) -> str:
    """Write a time to the second; Z says that it is UTC."""
    return "" if moment is None else datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def amount(micros: int) -> str:
    """Write millionths of the currency: two decimals, more where there are more."""
    whole, rest = divmod(micros, MICROS)
    return f"{whole:,}.{f'{rest:06}'.rstrip('0').ljust(2, '0')}"


def limits(own: Mapping[str, Any]) -> str:
    """Write limits in one cell; empty when none is set."""
    return ", ".join(f"{_number(own[name])} {word}" for name, word in _LIMITS if own[name] is not None)


def quota(own: Mapping[str, Any]) -> str:
    """Write a quota in one cell; empty when none is set."""
    parts = []
    if own["tokens"] is not None:
        parts.append(f"{_number(own['tokens'])} tokens")
    if own["cost_micros"] is not None:
        parts.append(f"cost {amount(own['cost_micros'])}")
    if parts and own["reset_at"] is not None:
        parts.append(f"from {second(own['reset_at'])}")
    elif parts and own["day"] is not None:
        parts.append(f"from day {own['day']}")
    return ", ".join(parts)


def _number(value: int | str) -> str:
    return f"{value:,}" if isinstance(value, int) else value


def _cell(shown: Mapping[str, Any], column: str) -> str:
    value = shown[column]
    if column in _TIMES:
        return second(value)
    if column == "scopes":
        return "all" if set(value) == set(SCOPES) else ",".join(value)
    if column == "limits":
        return limits(value)
    if column == "quota":
        return quota(value)
    return str(value)


def _fact(name: str, value: Any) -> Any:
    if name in ("limits", "effective_limits"):
        return limits(value) or "none"
    if name in ("quota", "effective_quota"):
        return _with_zone(quota(value), value["time_zone"]) or "none"
    return second(value) if name in _TIMES and value is not None else value


def _with_zone(text: str, zone: str | None) -> str:
    return f"{text}, months of {zone}" if text and zone else text
