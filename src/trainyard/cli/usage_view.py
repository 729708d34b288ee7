"""How usage looks in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from trainyard.cli import output
from trainyard.cli.key_view import amount, second
from trainyard.sdk.usage_results import Group, LogEntry, Totals, Usage, UsageStatistics

_COLUMN_OF = {"key": "key_id", "tenant": "tenant", "user": "user_id", "model": "model", "day": "day"}
_SUMS = ("REQUESTS", "CACHED", "PROMPT", "COMPLETION", "CHARGED", "COST")


def own(usage: Usage) -> None:
    """Print limits, quotas and what a key has used."""
    output.plain(f"{usage.key_id} of {usage.tenant}/{usage.user_id}")
    head = ("BARS OF", "REQUESTS", "TOKENS", "AT ONCE", "QUOTA TOKENS", "QUOTA COST", "RESETS")
    standings = [cells for cells in map(_standing, usage.standings) if any(cells[1:])]
    if standings:
        output.table(head, standings)
    else:
        output.line("no limits and no quota, neither of the key nor of its tenant")
    output.line()
    rows = [(row.model, *_sums(row)) for row in usage.by_model]
    output.table(("MODEL", *_SUMS), [*rows, ("all", *_sums(usage.totals))], whole=("MODEL",))


def report(rows: Sequence[Group], totals: Totals, groups: Sequence[str]) -> None:
    """Print a table of sums; its last line is of the whole window."""
    names = [_COLUMN_OF[group] for group in groups]
    lines = [(*(row[name] for name in names), *_sums(row)) for row in rows]
    whole = ("all", *[""] * (len(names) - 1), *_sums(totals))
    output.table((*(name.upper() for name in names), *_SUMS), [*lines, whole], whole=("KEY_ID", "MODEL", "DAY"))


def logs(entries: Sequence[LogEntry], *, out: Console | None = None) -> None:
    """Print requests: a table, on a terminal two lines for each, since the table would not fit."""
    out = out or output.console()
    if out.is_terminal:
        for entry in entries:
            _block(entry, out)
        return
    head = ("AT", "REQUEST", "TENANT", "USER", "KEY", "MODEL", "ROUTE", "OUTCOME", "CACHED", "TOKENS", "CHARGED",
            "COST", "SECONDS")  # fmt: skip
    output.table(head, [_entry(entry) for entry in entries], out=out)


def _block(entry: LogEntry, out: Console) -> None:
    at, request, tenant, user, key, model, route, outcome, _, tokens, charged, cost, seconds = _entry(entry)
    ended = f"{outcome}, from the cache" if entry.cached else outcome
    out.print(f"[bold]{escape(f'{at}  {model}  {route}  {ended}')}[/]", soft_wrap=True)
    counts = f"{tokens} tokens, {charged} charged · cost {cost} · {seconds} s"
    out.print(f"  [dim]{escape(f'{counts} · {tenant}/{user} · {key} · {request}')}[/]", soft_wrap=True)


def stats(found: UsageStatistics) -> None:
    """Print a line for each model and one for all."""
    head = ("MODEL", *_SUMS, "CACHED %", "MEAN S", "P50 S", "P95 S")
    rows = [
        (
            one.model or "all",
            *_sums(one),
            f"{100 * one.cached_share:.1f}",
            *(f"{seconds:.3f}" for seconds in (one.mean_s, one.p50_s, one.p95_s)),
        )
        for one in (*found.models, found.totals)
    ]
    output.table(head, rows, whole=("MODEL",))


def _sums(sums: Totals) -> tuple[str, ...]:
    counts = (sums.requests, sums.cached_requests, sums.prompt_tokens, sums.completion_tokens, sums.charged_tokens)
    return (*(f"{count:,}" for count in counts), amount(sums.cost_micros))


def _standing(one: Mapping[str, Any]) -> tuple[str, ...]:
    limits, quota = one["limits"], one["quota"]
    window = [_bar(limits[name], f" / {limits['window_s']:g} s") for name in ("requests", "tokens")]
    bars = (quota["tokens"], quota["cost_micros"])
    month = [_spent(bars[0], lambda count: f"{count:,}"), _spent(bars[1], amount)]
    resets = second(quota["resets_at"]) if any(bars) else ""
    return (one["scope"], *window, _bar(limits["concurrency"]), *month, resets)


def _bar(limit: int | None, per: str = "") -> str:
    return "" if limit is None else f"{limit:,}{per}"


def _spent(bar: Mapping[str, int] | None, write: Any) -> str:
    return "" if bar is None else f"{write(bar['used'])} of {write(bar['limit'])}"


def _entry(entry: LogEntry) -> tuple[str, ...]:
    return (
        *(second(entry.at), entry.request_id, entry.tenant, entry.user_id, entry.key_id, entry.model, entry.route),
        *(entry.outcome, "yes" if entry.cached else "no", f"{entry.prompt_tokens + entry.completion_tokens:,}"),
        *(f"{entry.charged_tokens:,}", amount(entry.cost_micros), f"{entry.seconds:.3f}"),
    )
