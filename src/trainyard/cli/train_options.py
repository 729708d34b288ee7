"""The options of `trainyard train`."""

from pathlib import Path
from typing import Annotated

import typer

_NEW = "New run"

Data = Annotated[
    Path, typer.Option("--data", help='JSON Lines: each {"messages": […]} or {"text": …}.', show_default=False)
]
Epochs = Annotated[int, typer.Option("--epochs", min=1, help="Passes over the data.")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="Optimiser steps, in place of epochs.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, max=128, help="Lines per step.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of the adapter and of the order of the data.")]
Validation = Annotated[
    float, typer.Option("--validation", min=0, help="Examples held out by hash: a share below 1, else their number.")
]
EvalEvery = Annotated[
    int | None, typer.Option("--eval-every", min=0, help="Steps between validations; one epoch when left out.")
]
CheckpointEvery = Annotated[
    int, typer.Option("--checkpoint-every", min=0, help="Steps between checkpoints; the end always saves one.")
]
Resume = Annotated[
    str | None, typer.Option("--resume", metavar="RUN", help="Continue a run with the same data and options.")
]
Model = Annotated[
    str | None, typer.Option("--model", help="Base model; the server's first when left out.", rich_help_panel=_NEW)
]
Rate = Annotated[
    float | None,
    typer.Option("--lr", help="Learning rate; the server's default when left out.", rich_help_panel=_NEW),
]
Rank = Annotated[int | None, typer.Option("--rank", help="Rank of the adapter.", rich_help_panel=_NEW)]
Alpha = Annotated[int | None, typer.Option("--alpha", help="Scale of the adapter.", rich_help_panel=_NEW)]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", help="cosine, linear or constant_with_warmup.", rich_help_panel=_NEW),
]
Warmup = Annotated[
    int | None, typer.Option("--warmup", min=0, help="Steps of rising learning rate.", rich_help_panel=_NEW)
]
