"""`trainyard models`: what a server can train and serve."""

import typer

from trainyard.cli import options, output
from trainyard.core import errors
from trainyard.sdk import AuthorizationError, Client

app = typer.Typer(help="What a server can train and serve.", no_args_is_help=True)


@app.command("list")
def list_models(url: options.Url = None, key: options.Key = None, as_json: options.AsJson = False) -> None:
    """List the models that can be called, and whether this key can train them."""
    with Client(key, url) as client:
        served = client.served_models()
        trainable = _trainable(client)
    rows = [{"model": model.id, "is_trainable": model.id in trainable} for model in served]
    if as_json:
        output.json_line(rows)
    else:
        output.table(("MODEL", "TRAINABLE"), [(row["model"], "yes" if row["is_trainable"] else "no") for row in rows])


def to_call(client: Client) -> str:
    """Name the model that requests without a model get.

    Raises:
        errors.UnknownModel: The server has no models.
    """
    return _first([model.id for model in client.served_models() if model.default])


def to_train(client: Client) -> str:
    """Name the server's first base model.

    Raises:
        errors.UnknownModel: The server has no models.
    """
    return _first(client.models())


def _first(names: list[str]) -> str:
    if not names:
        raise errors.UnknownModel("this server has no models; add one to its models.yaml")
    return names[0]


def _trainable(client: Client) -> set[str]:
    try:
        return set(client.models())
    except AuthorizationError:  # the key has no scope to train
        return set()
