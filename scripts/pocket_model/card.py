"""Writes the model card: `card.md` with measured figures filled in."""

from dataclasses import asdict, dataclass
from pathlib import Path

from scripts.pocket_model import exchange
from scripts.pocket_model.measure import Score
from scripts.pocket_model.plan import Plan
from scripts.pocket_model.train import Progress

_TEMPLATE = Path(__file__).with_name("card.md")


@dataclass(frozen=True)
class Figures:
    """Everything that is measured after training.

    Attributes:
        words: distinct words of the first `Plan.counted_documents` documents; forms likewise.
        scores: per family, and "all".
        samples: (request, answer) pairs in the order in which they were drawn.
        file_bytes: size of all files but the card.
    """

    command: str
    parameters: int
    words: int
    forms: int
    scores: dict[str, Score]
    sums_20: Score
    sums_100: Score
    samples: list[tuple[str, str]]
    sample_seed: int
    temperature: float
    sha256: str
    file_bytes: int
    processor: str


def write(path: Path, plan: Plan, progress: Progress, figures: Figures) -> None:
    """Write the card as Markdown."""
    measured = {name: getattr(figures, name) for name in Figures.__dataclass_fields__}
    every = figures.scores["all"]
    values = asdict(plan) | measured | {
        "cpu_minutes": progress.cpu_seconds / 60,
        "wall_minutes": progress.seconds / 60,
        "steps": progress.step,
        "tokens": progress.tokens,
        "long_tokens": progress.long_tokens,
        "checked": every.count,
        "held_out_of": exchange.HELD_OUT_OF,
        "sums_held_out_of": exchange.SUMS_HELD_OUT_OF,
        "families": "\n".join(_row(*pair) for pair in sorted(figures.scores.items(), key=lambda it: it[0] == "all")),
        "sums_20_count": figures.sums_20.count,
        "sums_20_share": 100 * figures.sums_20.share,
        "sums_100_count": figures.sums_100.count,
        "sums_100_share": 100 * figures.sums_100.share,
        "samples": "\n".join(_sample(number, *pair) for number, pair in enumerate(figures.samples, 1)),
    }  # fmt: skip
    path.write_text(_TEMPLATE.read_text(encoding="utf-8").format(**values), encoding="utf-8")


def _row(name: str, score: Score) -> str:
    return f"| {name} | {score.count} | {100 * score.share:.1f} % | {score.loss:.4f} |"


def _sample(number: int, request: str, answer: str) -> str:
    return f"{number}. **{_one_line(request)}**\n   {_one_line(answer)}"


def _one_line(text: str) -> str:
    return text.replace("\n", " ⏎ ").replace("*", "\\*").replace("<", "\\<")
