"""What the code has defined, told without running any of the code: names, types, sizes, beginnings of values."""

import builtins
import itertools
import reprlib
import sys
import types
from collections.abc import Callable, Collection
from typing import Any

from trainyard.sandbox.inside import border

PREVIEW_CHARS = 120
LARGEST_INT_BITS = 2_048
"""Longer ones are described: writing them out takes quadratic time."""

LEAVES = (
    ("datetime", ("datetime", "date", "time", "timedelta")),
    ("decimal", ("Decimal",)),
    ("fractions", ("Fraction",)),
    ("pathlib", ("PosixPath", "PurePosixPath")),
    ("uuid", ("UUID",)),
    ("builtins", ("range", "float", "complex", "bool", "NoneType", "ellipsis", "NotImplementedType")),
)
"""Types whose `repr` is the standard library's own, short, and calls nobody else's."""


def listing(namespace: dict[str, Any], skip: Collection[str]) -> list[dict[str, Any]]:
    """List the variables of a namespace, as `types.orders.Variable`; underscored names, modules and `skip` left out."""
    return [
        described(name, value)
        for name, value in list(namespace.items())
        if isinstance(name, str)
        and not name.startswith("_")
        and name not in skip
        and type(value) is not types.ModuleType
    ]


def described(name: str, value: Any) -> dict[str, Any]:
    """Describe one variable."""
    size_bytes, _ = border.attempt(_size_bytes, value)
    text, failure = border.attempt(_preview, value)
    return {"name": name, "type": qualified(type(value)), "bytes": size_bytes, "preview": cut(failure or text)}


def qualified(kind: type) -> str:
    """Name a type as an import would; those of the code itself and builtins without their module."""
    module = type.__getattribute__(kind, "__module__")
    name = type.__dict__["__qualname__"].__get__(kind)
    return name if module in ("builtins", "__main__") or not isinstance(module, str) else f"{module}.{name}"


def cut(text: str) -> str:
    """Put a preview on one line of its length."""
    line = " ".join(text[: 4 * PREVIEW_CHARS].split())
    return line if len(line) <= PREVIEW_CHARS else line[: PREVIEW_CHARS - 1] + "…"


def loaded(module: str, name: str) -> Any:
    """Give a class of a library that the code has imported; None when it has not."""
    return getattr(sys.modules.get(module), name, None)


def loaded_module(name: str) -> Any:
    """Give a library that the code has imported; None when it has not."""
    return sys.modules.get(name)


def is_a(value: Any, module: str, name: str) -> bool:
    """Whether it is an instance of a class of such a library, by its true type."""
    return loaded(module, name) in type(value).__mro__


def _size_bytes(value: Any) -> int | None:
    if is_a(value, "numpy", "ndarray"):
        return int(loaded("numpy", "ndarray").nbytes.__get__(value))
    if is_a(value, "pandas", "DataFrame"):
        return int(value.memory_usage(index=True, deep=False).sum())
    if is_a(value, "pandas", "Series"):
        return int(value.memory_usage(index=True, deep=False))
    sizing = next(vars(kind)["__sizeof__"] for kind in type(value).__mro__ if "__sizeof__" in vars(kind))
    return None if isinstance(sizing, types.FunctionType) else sys.getsizeof(value)


def _preview(value: Any) -> str:
    if is_a(value, "pandas", "DataFrame"):
        rows, columns = value.shape
        names = ", ".join(_Short().repr(column) for column in itertools.islice(value.columns, 12))
        return f"{rows} rows x {columns} columns: {names}"
    if is_a(value, "pandas", "Series"):
        return f"{len(value)} x {value.dtype}"
    if is_a(value, "numpy", "ndarray") and value.size > 8:
        return f"shape {value.shape}, {value.dtype}"
    return _Short().repr(value)


class _Short(reprlib.Repr):
    """Bounded `repr` of known builtin types by their exact type; everything else is told by its type's name."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxtuple = self.maxlist = self.maxset = self.maxfrozenset = self.maxdict = 8
        self.maxstring = self.maxother = PREVIEW_CHARS

    def repr1(self, x: Any, level: int) -> str:
        """Describe one value."""
        kind = type(x)
        table: dict[type, Callable[[Any, int], str]] = {
            list: self.repr_list,
            tuple: self.repr_tuple,
            set: self.repr_set,
            frozenset: self.repr_frozenset,
            dict: self.repr_dict,
            str: self.repr_str,
            int: self.repr_int,
            bytes: self._bytes,
            bytearray: self._bytes,
            types.FunctionType: self._function,
        }
        if kind in table:
            return table[kind](x, level)
        if isinstance(x, type):
            return f"<class {qualified(x)}>"
        is_leaf = any(loaded(module, name) is kind for module, names in LEAVES for name in names)
        return builtins.repr(x) if is_leaf or x is None else self._instance(x, level)

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        """Describe a dict in its own order, which the parent would sort with the keys' own comparisons."""
        if level <= 0 and x:
            return "{...}"
        pairs = [
            f"{self.repr1(key, level - 1)}: {self.repr1(value, level - 1)}"
            for key, value in itertools.islice(x.items(), self.maxdict)
        ]
        return "{" + ", ".join(pairs + ["..."] * (len(x) > self.maxdict)) + "}"

    def repr_int(self, x: int, level: int) -> str:
        """Describe an int."""
        if x.bit_length() > LARGEST_INT_BITS:
            return f"int of {x.bit_length()} bits"
        return super().repr_int(x, level)

    def _bytes(self, x: bytes | bytearray, level: int) -> str:
        return builtins.repr(x[:PREVIEW_CHARS])

    def _function(self, x: types.FunctionType, level: int) -> str:
        code = x.__code__
        return f"def {x.__qualname__}({', '.join(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])})"

    def _instance(self, x: Any, level: int) -> str:
        name = qualified(type(x))
        attributes, _ = border.attempt(object.__getattribute__, x, "__dict__")
        if level <= 0 or type(attributes) is not dict or not attributes:
            return f"<{name}>"
        pairs = [f"{key}={self.repr1(item, level - 1)}" for key, item in itertools.islice(attributes.items(), 8)]
        return f"{name}({', '.join(pairs)})"
