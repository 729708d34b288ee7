"""What the code has defined, told without running any of the code: names, types, sizes, beginnings of values."""

import itertools
import sys
import types
from collections.abc import Collection, Iterable
from typing import Any

from trainyard.sandbox.inside import border

PREVIEW_CHARS = 120
LARGEST_INT_BITS = 2_048
"""Longer ones are described: writing them out takes quadratic time."""

MAX_LEVELS = 3
MAX_ITEMS = 8

BRACKETS = {list: ("[", "]"), tuple: ("(", ")"), set: ("{", "}"), frozenset: ("{", "}"), dict: ("{", "}")}
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
        and name.isidentifier()
        and not name.startswith("_")
        and name not in skip
        and type(value) is not types.ModuleType
    ]


def described(name: str, value: Any) -> dict[str, Any]:
    """Describe one variable."""
    size_bytes, _ = border.attempt(_size_bytes, value)
    text, failure = border.attempt(_preview, value)
    return {
        "name": name,
        "type": border.clean(qualified(type(value))),
        "bytes": size_bytes,
        "preview": cut(failure or text),
    }


def qualified(kind: type) -> str:
    """Name a type as an import would; those of the code itself and builtins without their module."""
    module, name = border.said_of(kind, "__module__"), str(border.said_of(kind, "__qualname__"))
    return name if module in ("builtins", "__main__") or not isinstance(module, str) else f"{module}.{name}"


def cut(text: str) -> str:
    """Put a preview on one line of its length."""
    line = border.clean(" ".join(text[: 4 * PREVIEW_CHARS].split()))
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
        names = [_short(column) for column in itertools.islice(value.columns, MAX_ITEMS)]
        return f"{rows} rows x {columns} columns: {_joined(names, columns)}"
    if is_a(value, "pandas", "Series"):
        return f"{len(value)} x {value.dtype}"
    if is_a(value, "numpy", "ndarray"):
        beginning = loaded("numpy", "ndarray").tolist(value.flat[:MAX_ITEMS])
        return f"shape {value.shape}, {value.dtype}: {_several(beginning, list, MAX_LEVELS)}"
    if is_a(value, "numpy", "number"):
        return repr(value)
    return _short(value)


def _short(value: Any, levels: int = MAX_LEVELS) -> str:
    """Write the beginning of a value, by the methods of builtin types alone, never by those of the code."""
    kind = type(value)
    if type in kind.__mro__:
        return f"<class {qualified(value)}>"
    if value is None or any(loaded(module, name) is kind for module, names in LEAVES for name in names):
        return repr(value)
    if kind is types.FunctionType:
        return _signature(value)
    base = next((base for base in kind.__mro__ if base in BRACKETS or base in (str, bytes, bytearray, int)), None)
    if base is None:
        return _instance(value, levels)
    text = _several(value, base, levels) if base in BRACKETS else _scalar(value, base)
    return text if kind is base and kind is not frozenset else f"{qualified(kind)}({text})"


def _scalar(value: Any, base: Any) -> str:
    if base is int:
        bits = int.bit_length(value)
        return f"an int of {bits} bits" if bits > LARGEST_INT_BITS else int.__repr__(value)
    beginning: str = base.__repr__(base.__getitem__(value, slice(PREVIEW_CHARS)))
    return beginning if base.__len__(value) <= PREVIEW_CHARS else f"{beginning}…"


def _several(value: Any, base: Any, levels: int) -> str:
    left, right = BRACKETS[base]
    length = base.__len__(value)
    if levels <= 0 and length:
        return f"{left}…{right}"
    if base is dict:
        pairs = itertools.islice(dict.items(value), MAX_ITEMS)
        texts = [f"{_short(key, levels - 1)}: {_short(item, levels - 1)}" for key, item in pairs]
    else:
        texts = [_short(item, levels - 1) for item in itertools.islice(base.__iter__(value), MAX_ITEMS)]
    return left + _joined(texts, length) + ("," if base is tuple and length == 1 else "") + right


def _joined(texts: Iterable[str], length: int) -> str:
    return ", ".join([*texts, *["…"] * (length > MAX_ITEMS)])


def _signature(function: types.FunctionType) -> str:
    code = function.__code__
    return f"def {function.__qualname__}({', '.join(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])})"


def _instance(value: Any, levels: int) -> str:
    name = qualified(type(value))
    attributes, _ = border.attempt(object.__getattribute__, value, "__dict__")
    if levels <= 0 or type(attributes) is not dict or not attributes:
        return f"<{name}>"
    pairs = itertools.islice(attributes.items(), MAX_ITEMS)
    return f"{name}({_joined((f'{key}={_short(item, levels - 1)}' for key, item in pairs), len(attributes))})"
