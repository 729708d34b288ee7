"""`trainyard db`: the schema of the database."""

import typer

from trainyard.cli import local, options, output
from trainyard.core import settings

app = typer.Typer(help="The schema of the database.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """The schema of the database."""


@app.command()
def upgrade(
    data_dir: options.DataDir = None, config_file: options.ConfigFile = None, as_json: options.AsJson = False
) -> None:
    """Bring the schema to this version's; `up` does the same at every start."""
    effective = settings.load({"data_dir": data_dir}, config_file)
    with local.database(effective) as database:
        before = database.revision()
        database.migrate()
        after = database.revision()
    if as_json:
        output.json_line({"kind": database.kind, "before": before, "after": after})
    else:
        came_from = "nothing to do" if before == after else f"was {before or 'empty'}"
        output.line(f"{database.kind}: revision {after} ({came_from})")
