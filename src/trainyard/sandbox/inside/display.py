"""Values that a run leaves, shaped as a notebook's outputs: its last expression, what it displays, figures, tables.

Nothing is imported for this: figures and tables are looked for in libraries that the code has imported.
"""

import __future__

import ast
import base64
import builtins
import itertools
import json
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trainyard.sandbox.inside import border, figures, tables

FORMATTERS = {
    "_repr_html_": "text/html",
    "_repr_markdown_": "text/markdown",
    "_repr_svg_": "image/svg+xml",
    "_repr_png_": "image/png",
    "_repr_jpeg_": "image/jpeg",
    "_repr_latex_": "text/latex",
    "_repr_json_": "application/json",
}
"""Methods that IPython asks for, in its order of preference, and what they give."""
CANARY = "_ipython_canary_method_should_not_exist_"
"""An object that has this answers to every name, so that none of the above is meant."""

MAX_TEXT_CHARS = 64 << 10
"""Of `text/plain`."""
MAX_ITEMS = 1_000
"""Of a list, tuple, set or dict in `text/plain`, as in IPython."""
MAX_BYTES = 8 << 20
"""Of all values of one run as JSON; half of what one frame's header may hold."""
MAX_OUTPUTS = 1_000
"""Of one run; those beyond are counted."""

Data = dict[str, str]


def compiled(code: str, filename: str) -> tuple[types.CodeType, types.CodeType | None]:
    """Compile code so that the value of its last expression can be had.

    Returns:
        What to execute, then what to evaluate: None when the code does not end with an expression, or a semicolon
        follows it. Line numbers are those of the code.

    Raises:
        SyntaxError: The code is no Python; so are ValueError, RecursionError and MemoryError, from `compile`.
    """
    tree = ast.parse(code, filename)
    last = tree.body[-1] if tree.body else None
    if not isinstance(last, ast.Expr) or _is_silenced(code, last):
        return compile(tree, filename, "exec", dont_inherit=True), None
    del tree.body[-1]
    body = compile(tree, filename, "exec", dont_inherit=True)
    features = body.co_flags & _future_flags()
    return body, compile(ast.Expression(last.value), filename, "eval", flags=features, dont_inherit=True)


def _is_silenced(code: str, last: ast.Expr) -> bool:
    assert last.end_lineno is not None
    lines = code.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    rest = [lines[last.end_lineno - 1].encode()[last.end_col_offset :].decode(), *lines[last.end_lineno :]]
    return "\n".join(rest).lstrip(" \t\f\\\n").startswith(";")


def _future_flags() -> int:
    flags = 0
    for name in __future__.all_feature_names:
        flags |= getattr(__future__, name).compiler_flag
    return flags


class Capture:
    """Collects the values of one run after the other; `display()` and `plt.show()` bring theirs in as they come."""

    def __init__(self, workspace: Path) -> None:
        self._outputs: list[dict[str, Any]] = []
        self._bytes = 0
        self._left_out = 0
        self._tables = tables.Tables(workspace)
        self._figures = figures.Figures(workspace, self._emit)
        builtins.display = self.display  # type: ignore[attr-defined] # as notebooks have it

    def display(self, *values: Any) -> None:
        """Show values now, in a notebook's way."""
        for value in values:
            if not self._figures.show_if_open(value):
                self._emit("display_data", *self._shaped(value))

    def results(self, namespace: dict[str, Any], last_value: Any, has_last_value: bool) -> list[dict[str, Any]]:
        """End a run: gives and forgets what it displayed, then its last value, then the figures that it left open.

        Each is a `types.orders.Result`. Figures are closed.
        """
        if has_last_value and last_value is not None and not self._figures.show_if_open(last_value, "execute_result"):
            self._emit("execute_result", *self._shaped(last_value))
        self._figures.show()
        return self.discard()

    def discard(self) -> list[dict[str, Any]]:
        """End a run without its values: gives and forgets what it displayed, and closes its figures unseen."""
        self._figures.close()
        if self._left_out:
            text = f"{self._left_out} more values left out: a run has {MAX_OUTPUTS}"
            self._outputs.append({"kind": "display_data", "data": {"text/plain": text}, "file": None})
        outputs, self._outputs, self._bytes, self._left_out = self._outputs, [], 0, 0
        return outputs

    def _shaped(self, value: Any) -> tuple[Data, str | None]:
        if tables.is_table(value):
            data, _ = border.attempt(tables.bounded, value, shaped)
            path, note = self._tables.save(value)
            data = shaped(value) if data is None else data
            return noted(data, note), path
        return shaped(value), None

    def _emit(self, kind: str, data: Data, file: str | None) -> None:
        if len(self._outputs) >= MAX_OUTPUTS:
            self._left_out += 1
            return
        fitting: Data = {}
        for mime, text in sorted(data.items(), key=lambda item: len(item[1])):
            content = border.clean(text)
            size_bytes = len(json.dumps(content))
            if self._bytes + size_bytes <= MAX_BYTES:
                fitting[mime] = content
                self._bytes += size_bytes
            else:
                fitting = noted(fitting, f"{mime} left out: {size_bytes} bytes, the values of a run hold {MAX_BYTES}")
        self._outputs.append({"kind": kind, "data": fitting, "file": file})


def noted(data: Data, note: str | None) -> Data:
    """Add a line to the plain text."""
    return data if note is None else data | {"text/plain": f"{data.get('text/plain', '')}\n({note})".lstrip()}


def shaped(value: Any) -> Data:
    """Give a value in all the forms that it has, by MIME type; `text/plain` always."""
    text, failure = border.attempt(_text, value)
    data = {"text/plain": f"<{type(value).__name__} whose repr failed: {failure}>" if failure else text}
    if isinstance(value, type):
        return data
    for mime, call in _forms(value):
        content, failure = border.attempt(call)
        data = noted(data, failure and f"{mime or 'its MIME bundle'} failed: {failure}")
        for name, form in _named(mime, content):
            encoded, failure = border.attempt(_encoded, form)
            data = noted(data, failure and f"{name} failed: {failure}")
            data |= {} if encoded is None else {name: encoded}
    return data


def _forms(value: Any) -> list[tuple[str | None, Callable[[], Any]]]:
    canary, _ = border.attempt(getattr, value, CANARY, None)
    if canary is not None:
        return []
    methods = {name: border.attempt(getattr, value, name, None)[0] for name in (*FORMATTERS, "_repr_mimebundle_")}
    bundle = methods.pop("_repr_mimebundle_")
    forms: list[tuple[str | None, Callable[[], Any]]] = [
        (FORMATTERS[name], method) for name, method in methods.items() if callable(method)
    ]
    if callable(bundle):
        forms.append((None, lambda: bundle(include=None, exclude=None)))
    return forms


def _named(mime: str | None, content: Any) -> list[tuple[str, Any]]:
    """Give each form with its name; where metadata comes with the data, it is left out."""
    if mime is not None:
        return [(mime, content)]
    bundle = content[0] if isinstance(content, tuple) and content else content
    return [(str(name), form) for name, form in bundle.items()] if isinstance(bundle, dict) else []


def _encoded(form: Any) -> str | None:
    """Make a string of a form; None when the object does not have it."""
    form = form[0] if isinstance(form, tuple) and form else form
    if form is None or isinstance(form, str):
        return form
    if isinstance(form, bytes | bytearray):
        return base64.b64encode(form).decode()
    return json.dumps(form)


def _text(value: Any) -> str:
    kind = type(value)
    if kind in (str, bytes) and len(value) > MAX_TEXT_CHARS:
        return f"{repr(value[:MAX_TEXT_CHARS])[:MAX_TEXT_CHARS]}… ({len(value)} in all)"
    if kind in (list, tuple, set, frozenset, dict) and len(value) > MAX_ITEMS:
        items = itertools.islice(value.items() if kind is dict else value, MAX_ITEMS)
        beginning = repr(kind(items))
        text = f"{beginning[: -1 if kind in (list, tuple, set, dict) else -2]}, … ({len(value)} in all)"
    else:
        text = repr(value)
    over = len(text) - MAX_TEXT_CHARS
    return text if over <= 0 else f"{text[:MAX_TEXT_CHARS]}… ({over} more characters)"
