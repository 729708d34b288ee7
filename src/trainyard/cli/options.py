"""Options that several commands share, with the same name and meaning everywhere."""

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON value instead of text.")]
Url = Annotated[
    str | None,
    typer.Option("--url", help="Server; TRAINYARD_URL, else http://127.0.0.1:8000, when left out.", show_default=False),
]
Key = Annotated[str | None, typer.Option("--key", help="API key; TRAINYARD_API_KEY when left out.", show_default=False)]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Directory of the server's data; .trainyard when left out.", show_default=False),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="Settings file; ./trainyard.yaml, if there, when left out.", show_default=False),
]
