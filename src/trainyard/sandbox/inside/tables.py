"""DataFrames: bounded in what is shown, whole in a file beside it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainyard.sandbox.inside import border, numbered, variables

MAX_CELLS = 500_000
"""Of a table that becomes a CSV file; pandas writes about a million a second."""
MAX_SHOWN = {"display.max_rows": 1_000, "display.max_columns": 200}


def is_table(value: Any) -> bool:
    """Whether it is a DataFrame of the pandas that the code has imported."""
    return variables.is_a(value, "pandas", "DataFrame")


def bounded(value: Any, shape: Callable[[Any], dict[str, str]]) -> dict[str, str]:
    """Shape a table under the code's own display options, where they are not boundless."""
    pandas = variables.loaded_module("pandas")
    options: list[Any] = []
    for name, most in MAX_SHOWN.items():
        wanted = pandas.get_option(name)
        options += [name, most if wanted is None else min(wanted, most)]
    with pandas.option_context(*options):
        return shape(value)


class Tables:
    """Saves tables into the workspace."""

    def __init__(self, workspace: Path) -> None:
        self._files = numbered.Series(workspace, "table", ".csv")

    def save(self, table: Any) -> tuple[str | None, str | None]:
        """Save one; gives its name, or None and the reason."""
        if table.size > MAX_CELLS:
            return None, f"no file: a table of {table.size} cells, at most {MAX_CELLS} are saved"
        name, failure = border.attempt(self._files.save, table.to_csv)
        return name, failure and f"no file: {failure}"
