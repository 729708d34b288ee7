import json
from pathlib import Path

import pytest

from scripts import coverage_run


@pytest.mark.parametrize("pattern", coverage_run.FULL_LINES)
def test_every_bar_of_100_percent_is_about_files_that_exist(pattern: str) -> None:
    assert list((coverage_run.ROOT / "src").glob(pattern.removeprefix("*/")))


@pytest.mark.parametrize("name", ["api", "services", "middleware"])
def test_the_bar_of_a_component_is_about_files_that_exist(name: str) -> None:
    files, bar = coverage_run.COMPONENTS[name]
    assert all(list((coverage_run.ROOT / "src").glob(pattern.removeprefix("*/"))) for pattern in files.split(","))
    assert bar >= 80


def test_the_files_that_leave_lines_unvisited_are_named(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps({"files": {"a.py": {"missing_lines": [3, 9]}, "b.py": {"missing_lines": []}}}))
    assert coverage_run.uncovered_lines(report) == ["a.py: lines [3, 9]"]
