"""`trainyard config`: the settings in effect."""

import typer

from trainyard.cli import options, output
from trainyard.core import settings

app = typer.Typer(help="The settings in effect.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """The settings in effect."""


@app.command()
def check(
    data_dir: options.DataDir = None, config_file: options.ConfigFile = None, as_json: options.AsJson = False
) -> None:
    """Check the settings and print each with its value and where that came from; secrets are masked."""
    flags = {"data_dir": data_dir}
    effective = settings.load(flags, config_file)
    if effective.sandbox.jwt.keys is not None:
        from trainyard.core.http.public_keys import PublicKeys  # takes a while to import

        PublicKeys(effective.sandbox.jwt.keys)
    origins = settings.provenance(flags, config_file)
    if as_json:
        output.json_line([{"name": o.name, "value": o.shown, "source": o.source} for o in origins])
    else:
        output.table(("SETTING", "VALUE", "FROM"), [(o.name, o.shown or "–", o.source) for o in origins])
