"""`trainyard sandbox`: looking after the code interpreter."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from rich.console import Console

from trainyard.cli import options, output, sandbox_view
from trainyard.core import settings
from trainyard.core.datadir import DataDirectory
from trainyard.sdk import Client

app = typer.Typer(help="The code interpreter.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """The code interpreter."""


@app.command()
def setup(
    more: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PACKAGE]...", help="Packages as pip names them.", show_default=False),
    ] = None,
    packages: Annotated[
        list[str] | None,
        typer.Option(help="The same; numpy, pandas and matplotlib when none is named.", show_default=False),
    ] = None,
    typescript: Annotated[bool, typer.Option(help="Make TypeScript run, with esbuild from npm.")] = True,
    force: Annotated[bool, typer.Option("--force", help="Make it anew, with the newest versions.")] = False,
    data_dir: options.DataDir = None,
    config_file: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Make the environment that code in the sandbox imports from; does nothing when it is there.

    It takes the place of the one before in one step. A running server goes on with the old one until it is started
    again.
    """
    from trainyard.sandbox import packages as environment

    effective = settings.load({"data_dir": data_dir}, config_file)
    path = environment.place(effective)
    if effective.sandbox.packages is None:
        DataDirectory(effective.data_dir).prepare()
    wanted = [*(packages or ()), *(more or ())] or list(environment.SCIENCE)
    with _progress(as_json) as tell:
        made, is_new = environment.make(path, wanted, typescript=typescript, force=force, tell=tell)
    if as_json:
        facts = {"path": str(path), "changed": is_new, "python": made.python, "typescript": made.typescript}
        output.json_line(facts | {"packages": made.installed})
        return
    output.plain(f"{'made' if is_new else 'nothing to do:'} {path} with {len(made.installed)} packages")


@app.command()
def ps(url: options.Url = None, key: options.Key = None, as_json: options.AsJson = False) -> None:
    """List the sessions of your tenant, live ones first, then as they were used, and the boxes of the server."""
    with Client(key, url) as client:
        found = client.sandbox.inventory()
    if as_json:
        output.json_line(found)
    else:
        sandbox_view.inventory(found)


@app.command()
def kill(
    session: Annotated[list[str], typer.Argument(metavar="SESSION...", help="As `sandbox ps` shows it.")],
    url: options.Url = None,
    key: options.Key = None,
    as_json: options.AsJson = False,
) -> None:
    """End the interpreters of sessions, and what runs in them; files and the newest checkpoint stay."""
    with Client(key, url) as client:
        for one in session:
            killed = client.sandbox.kill(one)
            if as_json:
                output.json_line({"session_id": one, "killed": killed})
            else:
                output.plain(f"{one} is ended" if killed else f"{one}: nothing ran")


@app.command()
def gc(
    stray_s: Annotated[
        float | None,
        typer.Option(min=60, help="Age of contents without a name; an hour when left out.", show_default=False),
    ] = None,
    url: options.Url = None,
    key: options.Key = None,
    as_json: options.AsJson = False,
) -> None:
    """Remove what is over at once: expired sessions of all tenants, and contents that no file and no state names.

    The server does it by itself every minute.
    """
    with Client(key, url) as client:
        removed = client.sandbox.collect(stray_s)
    if as_json:
        output.json_line(removed)
    else:
        output.plain(f"removed: {removed.sessions} sessions, {removed.contents} contents")


@contextlib.contextmanager
def _progress(as_json: bool) -> Iterator[Callable[[str], None]]:
    """Tell what goes on: a moving line on a terminal, plain lines elsewhere, on standard error beside JSON."""
    console = Console(stderr=True, highlight=False)
    if as_json or not sys.stderr.isatty():
        yield lambda text: output.plain(text, out=console)
    else:
        with console.status("…") as status:
            yield lambda text: status.update(text)
