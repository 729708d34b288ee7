"""`docs/sandbox.md` has a row for every attack, and names no test that is not there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "sandbox.md"
ATTACKS = ROOT / "tests" / "chaos" / "sandbox" / "attacks"
LEAST = 50


def rows() -> set[tuple[str, str]]:
    """File and test of each row."""
    found = set[tuple[str, str]]()
    for part in re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        (file,) = re.findall(r"In `tests/chaos/sandbox/attacks/(\w+\.py)`", part)
        found |= {(file, name) for name in re.findall(r"\| `(test_\w+)` \|$", part, re.MULTILINE)}
    return found


def attacks() -> set[tuple[str, str]]:
    """File and name of each attack that is a test."""
    return {
        (path.name, node.name)
        for path in ATTACKS.glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_attack_has_a_row_and_every_row_a_test() -> None:
    repeated = {("test_ordinary_user.py", "test_attacks_fail_without_root")}

    assert rows() == attacks() - repeated
    assert len(rows()) >= LEAST


def test_the_page_names_the_run_as_an_ordinary_user() -> None:
    assert "`test_attacks_fail_without_root`" in PAGE.read_text()
    assert ("test_ordinary_user.py", "test_attacks_fail_without_root") in attacks()


def test_the_page_says_what_is_not_covered() -> None:
    assert PAGE.read_text().partition("## What is not covered")[2].count("\n* **") >= 8
