"""Reads docs/failures.md: what fails is written there first, the chaos tests are measured against it."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "failures.md"


@dataclass(frozen=True)
class Row:
    """One failure as the page promises it."""

    failure: str
    statuses: tuple[int, ...]
    exit_code: int | None
    codes: tuple[str, ...]


def rows() -> list[Row]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [_row(*line[:3]) for line in cells if line[0] != "failure"]


def shows(failure: str, argument: str = "row") -> pytest.MarkDecorator:
    """Mark the test that makes a row happen; it is given the row."""
    return pytest.mark.parametrize(argument, [row for row in rows() if row.failure == failure], ids=[failure])


def _row(failure: str, seen: str, codes: str) -> Row:
    exit_code = re.search(r"exit (\d+)", seen)
    return Row(
        failure=failure,
        statuses=tuple(int(found) for found in re.findall(r"\b([45]\d\d)\b", seen)),
        exit_code=int(exit_code[1]) if exit_code else None,
        codes=tuple(re.findall(r"`(\w+)`", codes)),
    )
