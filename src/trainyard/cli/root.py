"""The command tree."""

from typing import Annotated

import typer

import trainyard
from trainyard.cli import (
    chat,
    config,
    db,
    demo,
    doctor,
    exec,
    generate,
    keys,
    mock,
    models,
    runs,
    sandbox,
    tenants,
    train,
    up,
    usage,
)

TRACEBACK = "--traceback"
"""Read by the edge, which every error reaches."""

app = typer.Typer(
    name="trainyard",
    help="Train LoRA adapters on language models, serve them, sample them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        print(f"trainyard {trainyard.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    traceback: Annotated[
        bool, typer.Option(TRACEBACK, help="Show where an internal error happened, for a report of it.")
    ] = False,
) -> None:
    """Train LoRA adapters on language models, serve them, sample them."""


app.command("up")(up.up)
app.command("demo")(demo.demo)
app.command("doctor")(doctor.doctor)
app.command("train")(train.train)
app.command("generate")(generate.generate)
app.command("chat")(chat.chat)
app.command("exec")(exec.exec_)
app.command("mock")(mock.mock)
app.add_typer(config.app, name="config")
app.add_typer(db.app, name="db")
app.add_typer(keys.app, name="keys")
app.add_typer(tenants.app, name="tenants")
app.add_typer(usage.app, name="usage")
app.add_typer(models.app, name="models")
app.add_typer(runs.app, name="runs")
app.add_typer(sandbox.app, name="sandbox")
