import base64
import builtins
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.unit.sandbox.inside.values import fresh
from trainyard.sandbox.inside import display
from trainyard.sandbox.types.orders import Result

Run = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Run code as the interpreter does; gives its results."""
    finders = list(sys.meta_path)
    capture = display.Capture(tmp_path)
    namespace = fresh()

    def run(code: str) -> list[dict[str, Any]]:
        body, last = display.compiled(code, "<cell>")
        exec(body, namespace)  # noqa: S102 - it stands for the code of a run
        value = eval(last, namespace) if last is not None else None  # noqa: S307
        return capture.results(namespace, value, last is not None)

    yield run
    sys.meta_path[:] = finders
    del builtins.display  # type: ignore[attr-defined] # what a Capture has put there


@pytest.mark.parametrize(
    ("code", "texts"),
    [
        ("1 + 1", ["2"]),
        ("x = 5\nx", ["5"]),
        ("x = 5", []),
        ("None", []),
        ("print", ["<built-in function print>"]),
        ("1;", []),
        ("1 ; # said nothing", []),
        ("1 # ;", ["1"]),
        ("(1,\n 2)\n\n# the end", ["(1, 2)"]),
        ("(1,\n 2);\n", []),
        ("'é\u2028ü';", []),
        ("'é\u2028ü'", ["'é\\u2028ü'"]),
        ("x = 1\r\nx\r\n", ["1"]),
        ("x = 1\rx;\r", []),
        ("x = 1; x", ["1"]),
        ("'alone'", ["'alone'"]),
        ("for i in range(3): i", []),
        ("", []),
        ("# nothing", []),
        ("from __future__ import annotations\n(lambda x: x)(3)", ["3"]),
        ("display(1, 'a')\n2", ["1", "'a'", "2"]),
        ("display(None)", ["None"]),
        ("'x' * 70_000", ["'" + "x" * 65_535 + "… (70000 in all)"]),
        ("'x' * 65_530 + 'y' * 65_530", ["'" + "x" * 65_530 + "yyyyy… (131060 in all)"]),
        ("list(range(1003))[998:] + [0] * 0", ["[998, 999, 1000, 1001, 1002]"]),
        ("[7] * 5000", ["[" + "7, " * 1000 + "… (5000 in all)"]),
        ("dict.fromkeys(range(1001))", [str(dict.fromkeys(range(1000)))[:-1] + ", … (1001 in all)"]),
        ("frozenset({0}) | {0}", ["frozenset({0})"]),
    ],
)
def test_the_last_value_is_had_as_text(code: str, texts: list[str], run: Run) -> None:
    assert [result["data"]["text/plain"] for result in run(code)] == texts


def test_results_are_those_of_the_orders_and_only_the_last_value_is_a_result(run: Run) -> None:
    results = msgspec.convert(run("display(1)\n2"), list[Result], strict=True)
    assert [result.kind for result in results] == ["display_data", "execute_result"]


def test_lines_are_those_of_the_code() -> None:
    body, last = display.compiled("x = 1\n\nx +\\\n 1", "<cell>")
    assert last is not None
    assert (body.co_filename, last.co_filename, max(line for *_, line in last.co_lines() if line)) == (
        "<cell>",
        "<cell>",
        4,
    )


def test_code_that_is_no_python_is_told_with_its_line() -> None:
    with pytest.raises(SyntaxError) as raised:
        display.compiled("x = 1\nx = = 2", "<cell>")
    assert (raised.value.filename, raised.value.lineno) == ("<cell>", 2)


@pytest.mark.parametrize(
    ("method", "mime", "content"),
    [
        ("_repr_html_(self): return '<b>'", "text/html", "<b>"),
        ("_repr_html_(self): return '<b>', {'isolated': True}", "text/html", "<b>"),
        ("_repr_markdown_(self): return '*a*'", "text/markdown", "*a*"),
        ("_repr_svg_(self): return '<svg/>'", "image/svg+xml", "<svg/>"),
        ("_repr_latex_(self): return '$x$'", "text/latex", "$x$"),
        ("_repr_png_(self): return b'PNG'", "image/png", base64.b64encode(b"PNG").decode()),
        ("_repr_jpeg_(self): return b'JPG'", "image/jpeg", base64.b64encode(b"JPG").decode()),
        ("_repr_json_(self): return {'a': [1]}", "application/json", json.dumps({"a": [1]})),
        ("_repr_mimebundle_(self, include=None, exclude=None): return {'x/y': 'z'}", "x/y", "z"),
        ("_repr_mimebundle_(self, **named): return {'x/y': {'z': 1}}, {}", "x/y", '{"z": 1}'),
        ("_repr_html_(self): return 'a\\ud800'", "text/html", "a?"),
    ],
)
def test_an_object_is_shown_in_its_forms(method: str, mime: str, content: str, run: Run) -> None:
    [result] = run(f"class A:\n    def __repr__(self): return 'an A'\n    def {method}\nA()")
    assert result["data"] == {"text/plain": "an A", mime: content}


@pytest.mark.parametrize(
    ("methods", "text"),
    [
        ("__repr__(self): raise ValueError('no')", "<A whose repr failed: ValueError: no>"),
        ("__repr__(self): raise SystemExit(3)", "<A whose repr failed: SystemExit: 3>"),
        ("__repr__(self): return 5", "<A whose repr failed: TypeError: __repr__ returned non-string (type int)>"),
        ("_repr_html_(self): raise ValueError('no')", "an A\n(text/html failed: ValueError: no)"),
        ("_repr_html_(self): return None", "an A"),
        ("_repr_json_(self): return {1, 2}", "an A\n(application/json failed: TypeError: Object of type set is not"),
        ("_repr_mimebundle_(self, **named): return {'a/b': {1}}", "an A\n(a/b failed: TypeError: "),
        ("_repr_mimebundle_(self): return {}", "an A\n(its MIME bundle failed: TypeError: "),
        ("__getattr__(self, name): return lambda *a, **k: 'everything'", "an A"),
        ("__getattr__(self, name): raise OSError('no')", "an A"),
    ],
)  # fmt: skip
def test_a_form_that_fails_is_told(methods: str, text: str, run: Run) -> None:
    [result] = run(f"class A:\n    def __repr__(self): return 'an A'\n    def {methods}\nA()")
    assert list(result["data"]) == ["text/plain"]
    assert result["data"]["text/plain"].startswith(text)


def test_a_class_is_not_asked_for_the_forms_of_its_instances(run: Run) -> None:
    [result] = run("class A:\n    def _repr_html_(self): return '<b>'\nA")
    assert list(result["data"]) == ["text/plain"]


def test_an_interrupt_ends_a_repr(run: Run) -> None:
    with pytest.raises(KeyboardInterrupt):
        run("class A:\n    def __repr__(self): raise KeyboardInterrupt\nA()")


def test_values_of_one_run_have_a_bound_and_what_is_over_it_is_told(run: Run) -> None:
    code = "class A:\n    def _repr_html_(self): return 'x' * 3_000_000\nfor _ in range(4): display(A())"
    results = run(code)
    assert ["text/html" in result["data"] for result in results] == [True, True, False, False]
    assert "text/html left out: 3000002 bytes, the values of a run hold 8388608" in results[3]["data"]["text/plain"]
    assert len(json.dumps(results)) < display.MAX_BYTES + 100_000
    assert "text/html" in run("A()")[0]["data"]


def test_a_run_that_displays_without_end_is_bounded(run: Run) -> None:
    results = run("for i in range(5000): display(i)\n'last'")
    assert len(results) == 1001
    assert results[999]["data"] == {"text/plain": "999"}
    assert results[1000]["data"] == {"text/plain": "4001 more values left out: a run has 1000"}
    assert len(run("1")) == 1


def test_nothing_is_imported_and_what_was_shown_can_be_thrown_away(tmp_path: Path, run: Run) -> None:
    before = set(sys.modules)
    run("display([1])\n{'a': 1}")
    assert set(sys.modules) == before
    assert list(tmp_path.iterdir()) == []
