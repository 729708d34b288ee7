"""`trainyard keys`: API keys, with and without a running server."""

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from trainyard.cli import local, options, output
from trainyard.core import errors

if TYPE_CHECKING:
    from trainyard.core.keys import NewKey

app = typer.Typer(help="API keys; works with and without a running server.", no_args_is_help=True)

KeyId = Annotated[str, typer.Argument(metavar="ID", help="As `keys list` shows it: key_…")]


@app.command()
def create(
    tenant: Annotated[str, typer.Option(help="Organisation; the border of isolation.")] = "default",
    user: Annotated[str, typer.Option(help="Owner of what the key makes.")] = "admin",
    scopes: Annotated[str, typer.Option(help="Comma-separated: train, generate, …, admin; or all.")] = "all",
    description: Annotated[str, typer.Option(help="For people.")] = "",
    expires_s: Annotated[float | None, typer.Option(min=1, help="Seconds until it ends; never when left out.")] = None,
    data_dir: options.DataDir = None,
    config_file: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Make a key and print it; this is the only time that it is shown."""
    expires_at = None if expires_s is None else time.time() + expires_s
    with local.keys(data_dir, config_file) as keys:
        new = keys.create(user, description, tenant=tenant, scopes=scopes, expires_at=expires_at)
    _print_new(new, as_json)


@app.command("list")
def list_keys(
    tenant: Annotated[str | None, typer.Option(help="Only those of this organisation.")] = None,
    user: Annotated[str | None, typer.Option(help="Only those of this owner.")] = None,
    data_dir: options.DataDir = None,
    config_file: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """List the keys that are not revoked, without anything that would help to guess one."""
    with local.keys(data_dir, config_file) as keys:
        found = keys.list_keys(user, tenant)
    if as_json:
        output.json_line(found)
        return
    columns = ("id", "prefix", "tenant", "user_id", "scopes", "status", "expires_at", "last_used", "description")
    rows = [[_cell(key[column]) for column in columns] for key in found]
    output.table([column.upper() for column in columns], rows)


@app.command()
def rotate(
    key_id: KeyId,
    overlap_s: Annotated[float, typer.Option(min=0, help="Seconds for which the old key still works.")] = 0.0,
    data_dir: options.DataDir = None,
    config_file: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Put a new key of the same owner and scopes in the place of one."""
    with local.keys(data_dir, config_file) as keys:
        new = keys.rotate_key(key_id, overlap_s)
    _print_new(new, as_json)


@app.command()
def revoke(
    key_id: KeyId,
    data_dir: options.DataDir = None,
    config_file: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """End a key for good; a running server refuses it within a second."""
    with local.keys(data_dir, config_file) as keys:
        if not keys.revoke_key(key_id):
            raise errors.NotFound(f"there is no live key {key_id!r}; `trainyard keys list` shows the ids")
    if as_json:
        output.json_line({"id": key_id, "revoked": True})
    else:
        output.line(f"{key_id} is revoked")


def _print_new(new: "NewKey", as_json: bool) -> None:
    record = new.record
    if as_json:
        output.json_line(
            {
                "key": new.key, "id": record.id, "tenant": record.tenant, "user": record.user,
                "scopes": sorted(record.scopes), "expires_at": record.expires_at,
            }
        )  # fmt: skip
        return
    print(new.key)
    output.line(f"[dim]{record.id} of {record.tenant}/{record.user}; it is not shown again[/]")


def _cell(value: object) -> str:
    if isinstance(value, float):
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return ",".join(value) if isinstance(value, list) else str(value or "")
