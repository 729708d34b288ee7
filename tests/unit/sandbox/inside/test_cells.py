"""Cells and the baseline, in this process."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainyard.sandbox.inside import display
from trainyard.sandbox.inside.interpreter_baseline import Baseline
from trainyard.sandbox.inside.interpreter_cell import Cells


@pytest.fixture
def cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cells]:
    monkeypatch.chdir(tmp_path)
    arguments, limit, handler = sys.argv, sys.getrecursionlimit(), signal.getsignal(signal.SIGINT)
    yield Cells({"__name__": "__main__", "__builtins__": __builtins__}, str(tmp_path))
    sys.argv = arguments
    sys.setrecursionlimit(limit)
    signal.signal(signal.SIGINT, handler)
    del display.builtins.display  # type: ignore[attr-defined]


def _order(code: str, **more: Any) -> dict[str, Any]:
    return {"code": code, "args": [], "env": {}, "results": True} | more


def test_the_last_expression_is_a_result(cells: Cells) -> None:
    ended = cells.run(_order("x = 1\nx + 1"))

    assert (ended.exit_code, [result["data"] for result in ended.results]) == (0, [{"text/plain": "2"}])


@pytest.mark.parametrize(
    ("code", "exit_code", "stderr"),
    [
        ("raise SystemExit", 0, ""),
        ("raise SystemExit(300)", 44, ""),
        ("raise SystemExit('no')", 1, "no\n"),
        ("1/0", 1, "ZeroDivisionError: division by zero\n"),
        ("x = (", 1, "SyntaxError: '(' was never closed\n"),
        ("import signal\nsignal.raise_signal(signal.SIGINT)", 1, "KeyboardInterrupt\n"),
    ],
)
def test_exit_codes(cells: Cells, capsys: pytest.CaptureFixture[str], code: str, exit_code: int, stderr: str) -> None:
    assert cells.run(_order(code)).exit_code == exit_code
    assert capsys.readouterr().err.endswith(stderr)


def test_environment_and_arguments_are_those_of_the_run(cells: Cells, capsys: pytest.CaptureFixture[str]) -> None:
    code = "import os, sys\nprint(sys.argv, os.environ['COLOUR'])"

    assert cells.run(_order(code, args=["a"], env={"COLOUR": "red"})).exit_code == 0
    assert capsys.readouterr().out == "['main.py', 'a'] red\n"
    assert "COLOUR" not in os.environ


def test_a_low_recursion_limit_is_kept_for_code_alone(cells: Cells, capsys: pytest.CaptureFixture[str]) -> None:
    cells.run(_order("import sys\nsys.setrecursionlimit(200)"))

    assert sys.getrecursionlimit() >= 1000
    cells.run(_order("print(sys.getrecursionlimit())"))
    assert capsys.readouterr().out == "200\n"


def test_signals_find_no_handler_of_code_between_runs(cells: Cells) -> None:
    cells.run(_order("import signal\nsignal.signal(signal.SIGINT, lambda *a: 1/0)"))

    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_a_baseline_is_kept_until_something_differs() -> None:
    namespace: dict[str, Any] = {}
    baseline = Baseline(namespace)
    baseline.note([compile("print(1)", "c", "exec")])
    assert baseline.is_kept()

    namespace["x"] = 1
    assert not baseline.is_kept()
    del namespace["x"]
    assert not baseline.is_kept()


@pytest.mark.parametrize("code", ["import math", "x.y = 1", "eval('1')", "[].__class__", "lambda: __import__('x')"])
def test_code_that_reaches_far_is_doubted(code: str) -> None:
    baseline = Baseline({})
    baseline.note([compile(code, "c", "exec")])

    assert not baseline.is_kept()
