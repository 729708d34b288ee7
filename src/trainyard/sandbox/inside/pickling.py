"""Pickles of a session's objects: cloudpickle, with functions that stay at home in the session's namespace.

cloudpickle gives a restored function a copy of the globals that it uses; in a session `f` has to see the `x` that the
next run sets. Functions whose globals are the namespace are therefore written with a reference to it, and closures
keep the cells that they share.
"""

import importlib
import io
import os
import sys
import types
from collections.abc import Callable
from typing import Any

Reduced = tuple[Any, ...]

STREAMS = ("stdin", "stdout", "stderr")


def live_globals() -> dict[str, Any]:
    """Stand for the namespace of the session in a pickle; `unpickling` puts the real one in its place."""
    raise RuntimeError("a state can only be read by the interpreter of a session")


def imported(name: str, submodules: tuple[str, ...]) -> types.ModuleType:
    """Import a module again, with those of its submodules that had been imported.

    A submodule that is not there any more is left out: only code that names it needs it, and is told by Python.
    """
    module = importlib.import_module(name)
    for submodule in submodules:
        if submodule not in sys.modules:
            try:
                importlib.import_module(submodule)
            except ImportError:
                continue
    return module


class _Home:
    """Written in place of the namespace; one per pickler."""


def pickler_class() -> type[Any]:
    """Make the class of picklers; only here, so that cloudpickle is imported at the first checkpoint."""
    import cloudpickle  # type: ignore[import-untyped] # it has no types

    class SessionPickler(cloudpickle.Pickler):  # type: ignore[misc] # for the same reason
        """Writes the objects of one namespace."""

        def __init__(
            self, file: Any, namespace: dict[str, Any], buffer_callback: Callable[[Any], object] | None
        ) -> None:
            super().__init__(file, protocol=5, buffer_callback=buffer_callback)
            self.home = _Home()
            self.namespace = namespace

        def reducer_override(self, obj: Any) -> Any:
            """Decide on everything that is no plain builtin value."""
            kind = type(obj)
            if kind is types.FunctionType and obj.__globals__ is self.namespace:
                return _function(obj, self.home)
            if kind is types.CellType:
                return _cell(obj)
            if kind is _Home:
                return live_globals, ()
            if isinstance(obj, types.ModuleType) and sys.modules.get(obj.__name__) is obj:
                return _module(obj.__name__)
            stream = next((name for name in STREAMS if getattr(sys, name, None) is obj), None)
            if stream is not None:
                return getattr, (sys, stream)
            if isinstance(obj, io.TextIOWrapper):
                raise TypeError("an open file cannot be kept")
            return super().reducer_override(obj)

    return SessionPickler


def _function(function: types.FunctionType, home: _Home) -> Reduced:
    made = (function.__code__, home, function.__name__, function.__defaults__, function.__closure__)
    attributes = {
        "__kwdefaults__": function.__kwdefaults__,
        "__annotations__": function.__annotations__,
        "__doc__": function.__doc__,
        "__module__": function.__module__,
        "__qualname__": function.__qualname__,
    }
    return types.FunctionType, made, (function.__dict__ or None, attributes)


def _cell(cell: types.CellType) -> Reduced:
    try:
        content = cell.cell_contents
    except ValueError:
        return types.CellType, ()
    return types.CellType, (), (None, {"cell_contents": content})


def _module(name: str) -> Reduced:
    inner = tuple(sorted(other for other in list(sys.modules) if other.startswith(name + os.extsep)))
    return imported, (name, inner)
