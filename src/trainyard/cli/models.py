"""`trainyard models`: what a server can train and serve, whether it works, and models from a hub."""

import sys
import time
from typing import Annotated

import typer

from trainyard.cli import options, output, probing
from trainyard.core import errors, hub, settings
from trainyard.sdk import AuthorizationError, Client

app = typer.Typer(help="What a server can train and serve, and models from a hub.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name on the hub: org/name.")]
Endpoint = Annotated[
    str | None, typer.Option("--endpoint", help="Address of the hub; its client's when left out.", show_default=False)
]
Revision = Annotated[str, typer.Option("--revision", help="Branch, tag or commit.")]
HubCache = Annotated[
    str | None,
    typer.Option("--hub-cache", help="Directory of the hub's client; `hub_cache` of the settings when left out."),
]
Probed = Annotated[str | None, typer.Argument(help="Model or alias; all that can be called when left out.")]


@app.command("list")
def list_models(url: options.Url = None, key: options.Key = None, as_json: options.AsJson = False) -> None:
    """List the models that can be called: how they do, what serves them, and whether this key can train them."""
    with Client(key, url) as client:
        served = client.served_models()
        trainable = _trainable(client)
    rows = [
        {
            "model": model.id,
            "status": model.status,
            "backend": model.backend,
            "capabilities": list(model.capabilities),
            "is_trainable": model.id in trainable,
            "is_default": model.default,
        }
        for model in served
    ]
    if as_json:
        output.json_line(rows)
        return
    head = ("MODEL", "STATUS", "BACKEND", "CAPABILITIES", "TRAINABLE", "DEFAULT")
    output.table(
        head,
        [
            (
                *(row["model"], row["status"], row["backend"], ", ".join(model.capabilities)),
                *("yes" if row[fact] else "no" for fact in ("is_trainable", "is_default")),
            )
            for row, model in zip(rows, served, strict=True)
        ],
    )


@app.command("probe")
def probe(
    name: Probed = None, url: options.Url = None, key: options.Key = None, as_json: options.AsJson = False
) -> None:
    """Ask each model, or one, for a single token through the running server, and show how long it took.

    The tokens count against the key's limits. Exits with 7 when a model fails.
    """
    with Client(key, url) as client:
        results = [probing.probe(client, model) for model in probing.chosen(client.served_models(), name)]
    if as_json:
        output.json_line([result.row() for result in results])
    else:
        rows = [(result.model, result.backend, result.shown_time, result.shown) for result in results]
        output.table(("MODEL", "BACKEND", "MS", "RESULT"), rows)
    failed = [result.model for result in results if result.error]
    if failed:
        raise errors.Unavailable(f"{len(failed)} of {len(results)} models failed: {', '.join(failed[:5])}")


@app.command("pull")
def pull(
    name: Name,
    endpoint: Endpoint = None,
    revision: Revision = "main",
    hub_cache: HubCache = None,
    config_file: options.ConfigFile = None,
    as_json: options.AsJson = False,
) -> None:
    """Download a model from a hub, so that `models.yaml` can name it: configuration, tokenizer, safetensors, templates.

    Files that are there already are not fetched again. A token for gated models is read from HF_TOKEN by the hub's
    client.
    """
    cache = settings.load({"hub_cache": hub_cache}, config_file).hub_cache
    began_s = time.monotonic()
    wanted = hub.look(name, cache, endpoint=endpoint, revision=revision)
    if not as_json:
        mib = wanted.missing_bytes / (1 << 20)
        output.line(f"{name} at {wanted.commit[:12]}: {len(wanted.files)} files, {mib:.1f} MiB to fetch")
    shows_progress = sys.stderr.isatty() and not as_json
    directory = hub.fetch(wanted, cache, endpoint=endpoint, shows_progress=shows_progress)
    took_s = time.monotonic() - began_s
    if as_json:
        facts = {"name": name, "commit": wanted.commit, "directory": str(directory), "files": list(wanted.files)}
        output.json_line(facts | {"fetched_bytes": wanted.missing_bytes, "took_s": round(took_s, 3)})
        return
    output.plain(f"in {directory}")
    entry = f"{{name: {name}}}" if revision == "main" else f"{{name: {name}, path: {directory}}}"
    output.plain(f"models.yaml: - {entry}")


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
