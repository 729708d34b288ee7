"""What the demo shows, and nothing that it did not measure."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from trainyard.cli.finetune import Outcome
from trainyard.cli.train_view import duration


def heading(console: Console, text: str) -> None:
    """Print the title of a chapter."""
    console.print(f"\n[bold cyan]{escape(text)}[/]")


def fact(console: Console, text: str) -> None:
    """Print one line of a chapter, whole, since it may end with a path."""
    console.print(f"  {escape(text)}", soft_wrap=True)


def answers(console: Console, prompts: Sequence[str], before: Sequence[str], after: Sequence[str]) -> None:
    """Print answers side by side on a terminal, one below the other elsewhere."""
    rows = list(zip(prompts, before, after, strict=True))
    if not console.is_terminal:
        for prompt, old, new in rows:
            console.print(f"  {prompt}\n    before: {one_line(old)}\n    after:  {one_line(new)}", markup=False)
        return
    grid = Table(box=None, padding=(0, 2), header_style="bold")
    for column in ("prompt", "before", "after"):
        grid.add_column(column, overflow="fold", ratio=1)
    for prompt, old, new in rows:
        grid.add_row(escape(prompt), f"[dim]{escape(one_line(old))}[/]", escape(one_line(new)))
    console.print(grid)


def verdict(console: Console, before: float, after: float, wanted: float) -> None:
    """Print the fall of the loss, and whether it is enough."""
    share = fall(before, after)
    colour, word = ("green", "ok") if share >= wanted else ("red", "too little")
    console.print(
        f"  loss on held-out lines: {before:.3f} before, {after:.3f} after: "
        f"[{colour}]{-share:+.0%} ({word}; the goal is {-wanted:+.0%})[/]"
    )


def closing(console: Console, outcome: Outcome, total_s: float) -> None:
    """Print where the adapter lies and how long everything took."""
    fact(console, f"adapter, in PEFT's format: {outcome.saved.local_path}")
    fact(
        console,
        f"training: {outcome.tokens:,} tokens in {duration(outcome.train_s)}, {outcome.tokens_per_s:,.0f} a second; "
        f"all in all {duration(total_s)}",
    )


def fall(before: float, after: float) -> float:
    """Tell by which share a loss fell; negative when it rose."""
    return (before - after) / before


def one_line(text: str) -> str:
    """Put a text on one line."""
    return " ".join(text.split()) or "(nothing)"
