"""What commands print: JSON when asked, colours and tables on a terminal, plain lines elsewhere."""

import json
import os
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def console() -> Console:
    """Open standard output for rich, found anew each time so that redirection is seen."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def json_line(value: Any) -> None:
    """Print one JSON value on one line."""
    print(json.dumps(value, ensure_ascii=False, default=str))


def line(text: str = "") -> None:
    """Print one line of rich markup; the terminal wraps it, so that it can be copied whole."""
    console().print(text, soft_wrap=True)


def plain(text: str, *, out: Console | None = None) -> None:
    """Print text as it is, each line whole: paths and commands are there to be copied."""
    (out or console()).print(text, markup=False, soft_wrap=True)


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    whole: Collection[str] = (),
    out: Console | None = None,
) -> None:
    """Print rows: a table on a terminal; elsewhere a head line and tab-separated lines on standard output.

    Args:
        columns: Their names.
        rows: Their cells.
        whole: On a terminal these columns are never folded, so that they can be copied, and columns without any
            content are left out for them.
        out: In place of standard output.
    """
    out = out or console()
    cells = [["" if value is None else str(value) for value in row] for row in rows]
    if not out.is_terminal:
        for row in [list(columns), *cells]:
            print("\t".join(row))
        return
    shown = [n for n in range(len(columns)) if not (whole and cells) or any(row[n] for row in cells)]
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for n in shown:
        grid.add_column(columns[n], overflow="fold", no_wrap=columns[n] in whole)
    for row in cells:
        grid.add_row(*(escape(row[n]) for n in shown))
    out.print(grid)


def facts(values: Mapping[str, object]) -> None:
    """Print names and values, one per line; what is null is left out, the fields of an object have dotted names."""
    flat = dict(_flat(values))
    width = max((len(name) for name in flat), default=0)
    for name, value in flat.items():
        console().print(f"[bold]{name.ljust(width)}[/]  {escape(value)}", soft_wrap=True)


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif value is not None:
            yield prefix + name, _word(value)


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def silence() -> None:
    """Send standard output nowhere from now on, so that the flush at exit does not complain about a closed pipe."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
