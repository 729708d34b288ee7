"""`trainyard keys`: API keys, with and without a running server."""

import sys
import time
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from trainyard.cli import bar_options, key_view, local, options, output
from trainyard.core import errors

if TYPE_CHECKING:
    from trainyard.core.keys import APIKeyManager, NewKey

app = typer.Typer(help="API keys; works with and without a running server.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it: key_…")]


@app.command()
def create(
    tenant: Annotated[str, typer.Option(help="Organisation; the border of isolation.")] = "default",
    user: Annotated[str, typer.Option(help="Owner of what the key makes.")] = "admin",
    scopes: Annotated[str, typer.Option(help="Comma-separated: train, generate, …, admin; or all.")] = "all",
    description: Annotated[str, typer.Option(help="For people.")] = "",
    expires_s: Annotated[float | None, typer.Option(min=1, help="Seconds until it ends; never when left out.")] = None,
    requests: bar_options.Requests = None,
    tokens: bar_options.Tokens = None,
    concurrency: bar_options.Concurrency = None,
    quota_tokens: bar_options.QuotaTokens = None,
    quota_cost: bar_options.QuotaCost = None,
    quota_zone: bar_options.QuotaZone = None,
    quota_day: bar_options.QuotaDay = None,
    quota_reset_at: bar_options.QuotaResetAt = None,
    data_dir: options.DataDir = None,
    config_file: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a key and print it; this is the only time that it is shown."""
    from trainyard.core.keys import OwnLimits, OwnQuota

    expires_at = None if expires_s is None else time.time() + expires_s
    limits = OwnLimits(**bar_options.limits(requests, tokens, concurrency))
    quota = OwnQuota(**bar_options.quota(quota_tokens, quota_cost, quota_zone, quota_day, quota_reset_at))
    with local.keys(data_dir, config_file) as keys:
        new = keys.create(
            user, description, tenant=tenant, scopes=scopes, expires_at=expires_at, limits=limits, quota=quota
        )
        _print_new(keys, new, as_json)


@app.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only those of this organisation.")] = None,
    user: Annotated[str | None, typer.Option(help="Only those of this owner.")] = None,
    scope: Annotated[str | None, typer.Option(help="Only those that have this scope.")] = None,
    status: Annotated[str, typer.Option(help="live (not revoked), active, expired, revoked or all.")] = "live",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most keys to list.")] = 1000,
    offset: Annotated[int, typer.Option(min=0, help="Keys to leave out from the beginning.")] = 0,
    data_dir: options.DataDir = None,
    config_file: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """List keys, oldest first, without anything that would help to guess one."""
    from trainyard.core.keys.store.keys import Status, Which

    kind = next((word for word in get_args(Status) if word == status), None)
    if kind is None:
        raise typer.BadParameter(f"{status!r} is none of: {', '.join(get_args(Status))}", param_hint="--status")
    with local.keys(data_dir, config_file) as keys:
        records, total = keys.page(Which(tenant, user, scope, kind), limit, offset)
        found = [keys.describe(record) for record in records]
    if as_json:
        output.json_line(found)
    else:
        key_view.keys(found)
    tell_rest(offset, len(found), total)


@app.command()
def show(
    key_id: KeyId,
    data_dir: options.DataDir = None,
    config_file: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Show everything about a key but the key; a revoked one too."""
    with local.keys(data_dir, config_file) as keys:
        _print(keys.describe(keys.show(key_id)), as_json)


@app.command()
def update(
    key_id: KeyId,
    description: Annotated[str | None, typer.Option(help="For people.")] = None,
    scopes: Annotated[str | None, typer.Option(help="Comma-separated, in place of those it has; or all.")] = None,
    expires_s: Annotated[
        str | None, typer.Option(metavar="SECONDS", help="Seconds from now until it ends; never = it does not.")
    ] = None,
    requests: bar_options.Requests = None,
    tokens: bar_options.Tokens = None,
    concurrency: bar_options.Concurrency = None,
    quota_tokens: bar_options.QuotaTokens = None,
    quota_cost: bar_options.QuotaCost = None,
    quota_zone: bar_options.QuotaZone = None,
    quota_day: bar_options.QuotaDay = None,
    quota_reset_at: bar_options.QuotaResetAt = None,
    data_dir: options.DataDir = None,
    config_file: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Change a key; what no option names stays. A running server knows within a second."""
    from trainyard.core.keys import KeyPatch

    wishes: dict[str, Any] = {"description": description, "scopes": scopes}
    wishes = {name: value for name, value in wishes.items() if value is not None}
    if expires_s is not None:
        wishes["expires_at"] = _end(expires_s)
    limits = bar_options.limits(requests, tokens, concurrency)
    quota = bar_options.quota(quota_tokens, quota_cost, quota_zone, quota_day, quota_reset_at)
    if not (wishes or limits or quota):
        raise errors.InvalidRequest("nothing to change: name at least one option; see trainyard keys update --help")
    with local.keys(data_dir, config_file) as keys:
        _print(keys.describe(keys.update(key_id, KeyPatch(**wishes, limits=limits, quota=quota))), as_json)


@app.command()
def rotate(
    key_id: KeyId,
    overlap_s: Annotated[float, typer.Option(min=0, help="Seconds for which the old key still works.")] = 0.0,
    data_dir: options.DataDir = None,
    config_file: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Put a new key in the place of one; it has its owner, scopes, limits and quota, and what was consumed."""
    with local.keys(data_dir, config_file) as keys:
        _print_new(keys, keys.rotate_key(key_id, overlap_s), as_json)


@app.command()
def revoke(
    key_id: KeyId,
    data_dir: options.DataDir = None,
    config_file: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """End a key for good; a running server refuses it within a second."""
    with local.keys(data_dir, config_file) as keys:
        record = keys.revoke(key_id)
    if as_json:
        output.json_line({"id": record.id, "revoked": True})
    else:
        output.line(f"{record.id} is revoked")


def tell_rest(offset: int, shown: int, total: int) -> None:
    """Say on standard error when a list goes on after what was shown."""
    if offset + shown < total:
        print(f"{shown} of {total}; --offset {offset + shown} shows more", file=sys.stderr)


def _end(expires_s: str) -> float | None:
    if expires_s in bar_options.TAKEN_BACK:
        return None
    try:
        return time.time() + float(expires_s)
    except ValueError as error:
        raise typer.BadParameter(f"{expires_s!r} is no number of seconds", param_hint="--expires-s") from error


def _print(shown: dict[str, object], as_json: bool) -> None:
    if as_json:
        output.json_line(shown)
    else:
        key_view.facts(shown)


def _print_new(keys: "APIKeyManager", new: "NewKey", as_json: bool) -> None:
    record = new.record
    if as_json:
        output.json_line({"key": new.key, **keys.describe(record)})
        return
    print(new.key)  # alone on standard output, so that a shell can keep it: KEY=$(trainyard keys create …)
    print(f"{record.id} of {record.tenant}/{record.user}; the key is not shown again", file=sys.stderr)
