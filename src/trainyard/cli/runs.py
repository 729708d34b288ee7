"""`trainyard runs`: training runs and their checkpoints."""

from pathlib import Path
from typing import Annotated

import typer

from trainyard.cli import options, output
from trainyard.core import errors
from trainyard.sdk import Client
from trainyard.sdk.results import Result

app = typer.Typer(help="Training runs and their checkpoints.", no_args_is_help=True)

RunId = Annotated[str, typer.Argument(metavar="RUN", help="Id of a run: run_ and 16 hex digits.")]


@app.command("list")
def list_runs(url: options.Url = None, key: options.Key = None, as_json: options.AsJson = False) -> None:
    """List your runs, newest first."""
    with Client(key, url) as client:
        found = client.list_runs()
    if as_json:
        output.json_line(found)
    else:
        rows = [(run.run_id, run.base_model, run.status, run.config.lora_r, _second(run.created_at)) for run in found]
        output.table(("RUN", "MODEL", "STATUS", "RANK", "CREATED"), rows)


@app.command()
def show(run_id: RunId, url: options.Url = None, key: options.Key = None, as_json: options.AsJson = False) -> None:
    """Show where a run stands, its configuration and its checkpoints."""
    with Client(key, url) as client:
        status = client.get_run_status(run_id)
        artifacts = client.list_artifacts(run_id)
    if as_json:
        output.json_line({**status, "artifacts": artifacts})
        return
    config = status.pop("config")
    output.facts({**status, "config": config})
    output.table(
        ("CHECKPOINT", "STEP", "MODE", "BYTES"), [(a.name, a.step, a.mode, a.file_size_bytes) for a in artifacts]
    )


@app.command()
def complete(run_id: RunId, url: options.Url = None, key: options.Key = None, as_json: options.AsJson = False) -> None:
    """End a run's training: its place among your live runs is free, its weights can still be called."""
    with Client(key, url) as client:
        done = client.complete(run_id)
    if as_json:
        output.json_line(done)
    else:
        output.line(f"{run_id} is {done.status}")


@app.command()
def export(
    run_id: RunId,
    directory: Annotated[Path, typer.Option("--to", help="Directory to write; made when absent.")],
    mode: Annotated[str, typer.Option(help="adapter (PEFT's format) or merged (a whole model).")] = "adapter",
    step: Annotated[int | None, typer.Option(help="Checkpoint of this step; the newest when left out.")] = None,
    url: options.Url = None,
    key: options.Key = None,
    as_json: options.AsJson = False,
) -> None:
    """Download a checkpoint, each file checked by its SHA-256; saves one first when there is none."""
    with Client(key, url) as client:
        artifact = _chosen(client.list_artifacts(run_id), mode, step)
        if artifact is None and step is None:
            client.save_state(run_id, mode)
            artifact = _chosen(client.list_artifacts(run_id), mode, step)
        if artifact is None:
            raise errors.NotFound(f"{run_id} has no {mode} checkpoint of step {step}; see runs show {run_id}")
        path = client.download(artifact, directory)
    if as_json:
        output.json_line({"directory": str(path), "artifact": artifact})
    else:
        output.plain(f"step {artifact.step}, {mode}: {path}")


def _second(stamp: str) -> str:
    """Shorten an ISO 8601 time, which is UTC, to what fits into a table."""
    return stamp[:19].replace("T", " ")


def _chosen(artifacts: list[Result], mode: str, step: int | None) -> Result | None:
    """Pick the newest artifact of a mode, and of a step when one is wanted."""
    fitting = [a for a in artifacts if a.mode == mode and step in (None, a.step)]
    return max(fitting, key=lambda artifact: str(artifact.created_at), default=None)
