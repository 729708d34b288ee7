import sys
from typing import Any

import msgspec
import pytest

from tests.unit.sandbox.inside.values import fresh
from trainyard.sandbox.inside import variables
from trainyard.sandbox.types.orders import Variable

TRAPS = """
class Trap:
    def _sprung(self, *args, **named):
        raise AssertionError("the code of the user has run")
    __repr__ = __str__ = __len__ = __iter__ = __getattr__ = __getattribute__ = __sizeof__ = __eq__ = _sprung
    __lt__ = __hash__ = __bool__ = __format__ = __dir__ = __getitem__ = items = __class__ = property(_sprung)
"""


def listed(code: str, skip: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in variables.listing(fresh(code), skip)}


@pytest.mark.parametrize(
    ("code", "type_name", "preview"),
    [
        ("x = 1", "int", "1"),
        ("x = None", "NoneType", "None"),
        ("x = True", "bool", "True"),
        ("x = 1 << 5000", "int", "an int of 5001 bits"),
        ("x = 'a\\nb'", "str", "'a\\nb'"),
        ("x = b'ab'", "bytes", "b'ab'"),
        ("x = [1, 'a', None]", "list", "[1, 'a', None]"),
        ("x = list(range(9))", "list", "[0, 1, 2, 3, 4, 5, 6, 7, …]"),
        ("x = (1,)", "tuple", "(1,)"),
        ("x = {3}", "set", "{3}"),
        ("x = frozenset({3})", "frozenset", "frozenset({3})"),
        ("x = {'b': 1, 'a': [2]}", "dict", "{'b': 1, 'a': [2]}"),
        ("x = [[[[[1]]]]]", "list", "[[[[…]]]]"),
        ("x = []\nx.append(x)", "list", "[[[[…]]]]"),
        ("from collections import Counter\nx = Counter('a')", "collections.Counter", "collections.Counter({'a': 1})"),
        ("from collections import namedtuple\nx = namedtuple('P', 'a b')(1, 2)", "P", "P((1, 2))"),
        ("import datetime\nx = datetime.date(2026, 1, 2)", "datetime.date", "datetime.date(2026, 1, 2)"),
        ("from fractions import Fraction\nx = Fraction(1, 2)", "fractions.Fraction", "Fraction(1, 2)"),
        ("import threading\nx = threading.Lock()", "_thread.lock", "<_thread.lock>"),
        ("def x(a, b=1, *, c): pass", "function", "def x(a, b, c)"),
        ("class x: pass", "type", "<class x>"),
        ("class P: pass\nx = P()", "P", "<P>"),
        ("class P:\n    def __init__(self): self.a = 1\nx = P()", "P", "P(a=1)"),
        ("import numpy as np\nx = np.zeros((2, 1))", "numpy.ndarray", "shape (2, 1), float64: [0.0, 0.0]"),
        ("import numpy as np\nx = np.float64(1.5)", "numpy.float64", "np.float64(1.5)"),
        ("x = '\\ud800'", "str", "'\\ud800'"),
    ],
)  # fmt: skip
def test_a_variable_is_described(code: str, type_name: str, preview: str) -> None:
    one = msgspec.convert(listed(code)["x"], Variable, strict=True)
    assert (one.type, one.preview) == (type_name, preview)


@pytest.mark.parametrize(
    ("code", "size_bytes"),
    [
        ("import numpy as np\nx = np.zeros((1000, 10))", 80_000),
        ("x = b'a' * 1000", sys.getsizeof(b"a" * 1000)),
        ("class S:\n    def __sizeof__(self): return 10\nx = S()", None),
    ],
)
def test_a_size_is_told_where_it_is_cheap(code: str, size_bytes: int | None) -> None:
    assert listed(code)["x"]["bytes"] == size_bytes


def test_modules_underscores_and_skipped_names_are_left_out() -> None:
    code = "import math\nfrom os import path\n_own = 1\n__own__ = 2\ngiven = 3\nglobals()['no name'] = 4\nseen = 5"
    assert list(listed(code, ("given",))) == ["seen"]


@pytest.mark.parametrize(
    "value",
    [
        "Trap()",
        "[Trap()]",
        "{1: Trap()}",
        "(Trap(),)",
        "type('L', (list,), dict(vars(Trap)))([1])",
        "type('D', (dict,), dict(vars(Trap)))()",
        "type('S', (str,), dict(vars(Trap)))('a')",
        "type('I', (int,), dict(vars(Trap)))(5)",
        "type('M', (type,), {'__repr__': lambda c: 1 / 0, '__module__': property(lambda c: 1 / 0)})('C', (), {})",
    ],
)
def test_no_code_of_the_user_runs_for_a_listing(value: str) -> None:
    described = listed(f"{TRAPS}\nx = {value}")["x"]
    assert "has run" not in described["preview"]
    assert "Error" not in described["preview"]


def test_previews_are_short_and_quick_however_large_the_value_is() -> None:
    code = "text = 'x' * 10_000_000\nmany = {i: [i] * 100 for i in range(100_000)}\nnumber = 7 ** 1_000_000"
    assert max(len(one["preview"]) for one in listed(code).values()) == variables.PREVIEW_CHARS
