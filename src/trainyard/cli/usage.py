"""`trainyard usage`: what your key has used; for administrators, what everybody has."""

import sys
from typing import Annotated, Any

import typer

from trainyard.cli import options, output, usage_view
from trainyard.sdk import Client
from trainyard.sdk.usage_results import Group, LogEntry

app = typer.Typer(help="What was used: by your key, or, for administrators, by everybody.")

LOG_PAGE = 200
"""Most entries of one answer of the server."""

From = Annotated[
    str | None,
    typer.Option("--from", metavar="TIME", help="Begin: a date, an ISO 8601 time or Unix seconds.", show_default=False),
]
To = Annotated[
    str | None, typer.Option("--to", metavar="TIME", help="End, excluded; now when left out.", show_default=False)
]
Tenant = Annotated[str | None, typer.Option(help="Only of this tenant.")]
KeyId = Annotated[str | None, typer.Option("--key-id", metavar="ID", help="Only of this key: key_…")]
User = Annotated[str | None, typer.Option(help="Only of this owner.")]
Model = Annotated[str | None, typer.Option(help="Only of this model.")]


@app.callback(invoke_without_command=True)
def usage(
    context: typer.Context, url: options.Url = None, key: options.Key = None, as_json: options.AsJson = False
) -> None:
    """Show the limits of your key and what it has used; the commands below are for administrators."""
    if context.invoked_subcommand is not None:
        if url is not None or key is not None or as_json:
            raise typer.BadParameter(
                f"write --url, --key and --json behind '{context.invoked_subcommand}'", param_hint="usage"
            )
        return
    with Client(key, url) as client:
        found = client.usage()
    if as_json:
        output.json_line(found)
    else:
        usage_view.own(found)


@app.command()
def report(
    by: Annotated[str, typer.Option(help="What to tell apart, with commas: key, tenant, user, model, day.")] = "model",
    since: From = None,
    until: To = None,
    zone: Annotated[str | None, typer.Option(help="IANA name of the zone in which days begin.")] = None,
    tenant: Tenant = None,
    key_id: KeyId = None,
    user: User = None,
    model: Model = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    url: options.Url = None,
    key: options.Key = None,
    as_json: options.AsJson = False,
) -> None:
    """Add up usage, from the begin of this month unless told otherwise."""
    if as_csv and as_json:
        raise typer.BadParameter("--csv and --json exclude each other", param_hint="--csv")
    groups = [part.strip() for part in by.split(",")]
    window: dict[str, Any] = {"since": since, "until": until, "time_zone": zone}
    wanted: dict[str, Any] = {**window, "tenant": tenant, "key": key_id, "user": user, "model": model}
    with Client(key, url) as client:
        if as_csv:
            sys.stdout.write(client.usage_csv(groups, **wanted))
            return
        first = page = client.usage_report(groups, **wanted)
        rows: list[Group] = [*page.results]
        while page.next is not None:
            page = client.usage_report(groups, **wanted, after=page.next)
            rows.extend(page.results)
    if as_json:
        output.json_line({"window": first.window, "results": rows, "totals": first.totals})
    else:
        usage_view.report(rows, first.totals, groups)


@app.command()
def logs(
    since: From = None,
    until: To = None,
    tenant: Tenant = None,
    key_id: KeyId = None,
    user: User = None,
    model: Model = None,
    route: Annotated[str | None, typer.Option(help="Only of this route, such as /v1/generate.")] = None,
    outcome: Annotated[str | None, typer.Option(help="Only those that ended so: done, cancelled, failed.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most requests to list.")] = 50,
    url: options.Url = None,
    key: options.Key = None,
    as_json: options.AsJson = False,
) -> None:
    """List single requests, newest first, of the last 30 days unless told otherwise; no prompts, no answers."""
    ends: dict[str, Any] = {"since": since, "until": until, "route": route, "outcome": outcome}
    wanted: dict[str, Any] = {**ends, "tenant": tenant, "key": key_id, "user": user, "model": model}
    with Client(key, url) as client:
        page = client.usage_logs(**wanted, limit=min(limit, LOG_PAGE))
        entries: list[LogEntry] = [*page.results]
        while page.next is not None and len(entries) < limit:
            page = client.usage_logs(**wanted, limit=min(limit - len(entries), LOG_PAGE), after=page.next)
            entries.extend(page.results)
    if as_json:
        output.json_line(entries)
    else:
        usage_view.logs(entries)


@app.command()
def stats(
    since: From = None,
    until: To = None,
    tenant: Tenant = None,
    url: options.Url = None,
    key: options.Key = None,
    as_json: options.AsJson = False,
) -> None:
    """Show totals and latency of each model, of the last 30 days unless told otherwise."""
    with Client(key, url) as client:
        found = client.usage_stats(since=since, until=until, tenant=tenant)
    if as_json:
        output.json_line(found)
    else:
        usage_view.stats(found)
