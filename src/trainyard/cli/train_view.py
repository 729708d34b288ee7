"""How training looks: a bar on a terminal, lines elsewhere, nothing under --json."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bar

from trainyard.cli.finetune import Progress
from trainyard.sdk import results

LINES = 20
"""Lines that a whole run prints where there is no terminal, about."""


class TrainView:
    """A `finetune.Report`; a context, since a terminal's bar must be taken down."""

    def __init__(self, console: Console, steps: int, first_step: int = 0, *, is_quiet: bool = False) -> None:
        """Prepare.

        Args:
            console: Where to print.
            steps: Steps at the end of the run.
            first_step: Steps that the run has already.
            is_quiet: Print nothing at all.
        """
        self._console = console
        self._is_quiet = is_quiet
        self._every = max(1, (steps - first_step) // LINES)
        self._validation = ""
        self._progress: Progress | None = None
        self._bar: Bar | None = None
        self._task = TaskID(0)
        if console.is_terminal and not is_quiet:
            self._bar = Bar(
                TextColumn("  training"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TextColumn("{task.fields[facts]}"),
                console=console,
            )
            self._task = self._bar.add_task("train", total=steps, completed=first_step, facts="")

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def stepped(self, progress: Progress) -> None:
        """Move the bar, or print a line now and then."""
        self._progress = progress
        if self._bar:
            self._bar.update(self._task, completed=progress.step, facts=self._facts(progress))
        elif progress.step % self._every == 0 or progress.step == progress.steps:
            self._print(f"  step {progress.step}/{progress.steps} · {self._facts(progress)}")

    def evaluated(self, step: int, loss: float) -> None:
        """Print the validation loss, and show it beside the bar from now on."""
        self._validation = f" · held out {loss:.3f}"
        if self._bar and self._progress:
            self._bar.update(self._task, facts=self._facts(self._progress))
        self._print(f"  step {step}: loss on held-out lines {loss:.3f}")

    def saved(self, state: results.SavedState) -> None:
        """Name the checkpoint."""
        self._print(f"  step {state.step}: saved {state.name}")

    def resumed(self, step: int, reason: str) -> None:
        """Say that the engine died."""
        self._print(f"  the engine was restarted ({reason}); going on from step {step}")

    def _facts(self, progress: Progress) -> str:
        pace = f"{progress.tokens_per_s:,.0f} tokens/s · {duration(progress.eta_s)} left"
        return f"loss {progress.loss:.3f}{self._validation} · {pace}"

    def _print(self, text: str) -> None:
        if not self._is_quiet:
            self._console.print(text, markup=False)


def duration(seconds: float) -> str:
    """Write seconds for people: `42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
