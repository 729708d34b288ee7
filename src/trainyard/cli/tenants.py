"""`trainyard tenants`: what all keys of a tenant may do together, with and without a running server."""

from typing import Annotated

import typer

from trainyard.cli import bar_options, key_view, local, options, output
from trainyard.cli.keys import tell_rest
from trainyard.core import errors

app = typer.Typer(help="Limits and quotas of tenants; works with and without a running server.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="As `keys create --tenant` has it.")]


@app.command("list")
def list_tenants(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most tenants to list.")] = 1000,
    offset: Annotated[int, typer.Option(min=0, help="Tenants to leave out from the beginning.")] = 0,
    data_dir: options.DataDir = None,
    config_file: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """List the tenants that have keys, limits or a quota."""
    with local.keys(data_dir, config_file) as keys:
        records, total = keys.tenants.page(limit, offset)
        found = [keys.describe_tenant(record) for record in records]
    if as_json:
        output.json_line(found)
    else:
        key_view.tenants(found)
    tell_rest(offset, len(found), total)


@app.command()
def show(
    name: Name,
    data_dir: options.DataDir = None,
    config_file: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Show limits and quota of a tenant."""
    with local.keys(data_dir, config_file) as keys:
        _print(keys.describe_tenant(keys.tenants.show(name)), as_json)


@app.command("set")
def set_tenant(
    name: Name,
    requests: bar_options.TenantRequests = None,
    tokens: bar_options.TenantTokens = None,
    concurrency: bar_options.TenantConcurrency = None,
    quota_tokens: bar_options.QuotaTokens = None,
    quota_cost: bar_options.QuotaCost = None,
    quota_zone: bar_options.QuotaZone = None,
    quota_day: bar_options.QuotaDay = None,
    quota_reset_at: bar_options.QuotaResetAt = None,
    data_dir: options.DataDir = None,
    config_file: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Set what the options name; the rest stays. The tenant need not have keys yet."""
    limits = bar_options.limits(requests, tokens, concurrency)
    quota = bar_options.quota(quota_tokens, quota_cost, quota_zone, quota_day, quota_reset_at)
    if not (limits or quota):
        raise errors.InvalidRequest("nothing to set: name at least one option; see trainyard tenants set --help")
    with local.keys(data_dir, config_file) as keys:
        record = keys.tenants.update(name, limits=limits, quota=quota, or_make=True)
        _print(keys.describe_tenant(record), as_json)


@app.command()
def clear(
    name: Name,
    data_dir: options.DataDir = None,
    config_file: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Take every limit and the quota of a tenant away; its keys stay."""
    with local.keys(data_dir, config_file) as keys:
        _print(keys.describe_tenant(keys.tenants.clear(name)), as_json)


def _print(shown: dict[str, object], as_json: bool) -> None:
    if as_json:
        output.json_line(shown)
    else:
        key_view.facts(shown)
