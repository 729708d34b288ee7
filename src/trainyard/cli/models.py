"""`trainyard models`: what a server can train and serve."""

import typer

from trainyard.cli import options, output
from trainyard.sdk import Client

app = typer.Typer(help="What a server can train and serve.", no_args_is_help=True)


@app.command("list")
def list_models(url: options.Url = None, key: options.Key = None, as_json: options.AsJson = False) -> None:
    """List the models that can be called; base models can also be trained."""
    with Client(key, url) as client:
        trainable = set(client.models())
        served = client.served_models()
    rows = [{"model": model.id, "is_trainable": model.id in trainable} for model in served]
    if as_json:
        output.json_line(rows)
    else:
        output.table(("MODEL", "TRAINABLE"), [(row["model"], "yes" if row["is_trainable"] else "no") for row in rows])
