"""Counts what separates tidy code from the other kind, prints it as a table and fails over the bars.

The counts and their bars come from measurements of code bases that engineers hold up as models: broad excepts per
1,000 source lines 0.7-1.7, mocks per 1,000 test lines 0-5, parametrised tests per 100 at least 7.
"""

import ast
import re
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FILE_LINES = 500
FUNCTION_LINES = 50
MEDIAN_FILE_LINES = 150
MEDIAN_FUNCTION_LINES = 15
MOCKS_PER_1000 = 0.0
PARAMETRIZED_PER_100 = 7.0
BROAD_PER_1000 = 1.7
ROOM_NAMES = re.compile(r"^(utils?|helpers?|common|misc|managers?)$")
MOCKS = re.compile(r"unittest\.mock|\bMagicMock\b|monkeypatch\.setattr|\bmocker\.")


@dataclass(frozen=True)
class Function:
    """One function and the length of its code, docstring not counted."""

    where: str
    lines: int


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    value: str
    bar: str
    holds: bool


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function from its `def`, without its docstring."""
    total = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


def functions(path: Path, tree: ast.Module) -> Iterator[Function]:
    """Yield every function of a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield Function(f"{path}:{node.lineno} {node.name}", code_lines(node))


def is_broad(handler: ast.ExceptHandler) -> bool:
    """Tell whether a handler catches everything."""
    names = [handler.type] if not isinstance(handler.type, ast.Tuple) else handler.type.elts
    return any(n is None or (isinstance(n, ast.Name) and n.id in ("Exception", "BaseException")) for n in names)


def broad_excepts(path: Path, tree: ast.Module) -> list[str]:
    """Name the places that catch everything."""
    return [f"{path}:{n.lineno}" for n in ast.walk(tree) if isinstance(n, ast.ExceptHandler) and is_broad(n)]


def parametrized_share(tests: list[ast.Module]) -> float:
    """Count test functions with a parametrize mark, per 100 test functions."""
    found = [
        node
        for tree in tests
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]
    marked = [
        n for n in found if any("parametrize" in ast.unparse(d) or "given" in ast.unparse(d) for d in n.decorator_list)
    ]
    return 100 * len(marked) / max(1, len(found))


def rows(root: Path) -> list[Row]:
    """Measure the tree below root."""
    sources = sorted((root / "src").rglob("*.py"))
    tests = sorted((root / "tests").rglob("*.py"))
    trees = {p: ast.parse(p.read_text()) for p in (*sources, *tests)}
    source_lines = {p: len(p.read_text().splitlines()) for p in sources}
    filled = [n for n in source_lines.values() if n > 5]
    spans = [f for p in sources for f in functions(p.relative_to(root), trees[p])]
    broad = [b for p in sources for b in broad_excepts(p.relative_to(root), trees[p])]
    test_text = "\n".join(p.read_text() for p in tests)
    mocks = 1000 * len(MOCKS.findall(test_text)) / max(1, test_text.count("\n"))
    broad_rate = 1000 * len(broad) / max(1, sum(source_lines.values()))
    share = parametrized_share([trees[p] for p in tests])
    long_files = [f"{p.relative_to(root)} ({n})" for p, n in source_lines.items() if n > FILE_LINES]
    long_tests = [str(p.relative_to(root)) for p in tests if p.read_text().count("\n") > FILE_LINES]
    long_spans = [f"{f.where} ({f.lines})" for f in spans if f.lines > FUNCTION_LINES]
    ill_named = [
        str(p.relative_to(root)) for p in sources if ROOM_NAMES.match(p.stem) or ROOM_NAMES.match(p.parent.name)
    ]
    median_file, median_span = statistics.median(filled), statistics.median(f.lines for f in spans)
    return [
        Row("source lines", str(sum(source_lines.values())), "", True),
        Row("median file, lines", f"{median_file:.0f}", f"<= {MEDIAN_FILE_LINES}", median_file <= MEDIAN_FILE_LINES),
        Row("files over 500 lines", ", ".join(long_files + long_tests) or "0", "0", not long_files + long_tests),
        Row(
            "median function, lines",
            f"{median_span:.0f}",
            f"<= {MEDIAN_FUNCTION_LINES}",
            median_span <= MEDIAN_FUNCTION_LINES,
        ),
        Row("functions over 50 lines", ", ".join(long_spans) or "0", "0", not long_spans),
        Row("files named for no noun", ", ".join(ill_named) or "0", "0", not ill_named),
        Row(
            "broad excepts per 1,000 lines",
            f"{broad_rate:.2f}  ({', '.join(broad)})",
            f"<= {BROAD_PER_1000}",
            broad_rate <= BROAD_PER_1000,
        ),
        Row("mocks per 1,000 test lines", f"{mocks:.1f}", f"<= {MOCKS_PER_1000:.0f}", mocks <= MOCKS_PER_1000),
        Row(
            "parametrised per 100 tests",
            f"{share:.0f}",
            f">= {PARAMETRIZED_PER_100:.0f}",
            share >= PARAMETRIZED_PER_100,
        ),
    ]


def main() -> int:
    """Print the table; exit status 1 when a bar is not held."""
    table = rows(Path(__file__).resolve().parent.parent)
    for row in table:
        mark = "  " if row.holds else "x "
        print(f"{mark}{row.name:32} {row.bar:8} {row.value}")
    return 0 if all(row.holds for row in table) else 1


if __name__ == "__main__":
    sys.exit(main())
