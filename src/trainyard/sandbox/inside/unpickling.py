"""Reading a session's pickles into its namespace."""

import pickle
import types
from collections.abc import Callable, Iterable
from typing import Any

from trainyard.sandbox.inside import pickling

LIVE_GLOBALS = (pickling.live_globals.__module__, pickling.live_globals.__qualname__)
MADE_TYPES = ("cloudpickle.cloudpickle", "_builtin_type")
"""How cloudpickle names types such as that of code objects."""


class Names:
    """What the names in a pickle stand for here.

    Attributes:
        foreign: Version of the Python that compiled the functions, where its bytecode is not this one's.
    """

    def __init__(self, namespace: dict[str, Any], foreign: str | None) -> None:
        self._namespace = namespace
        self._foreign = foreign

    def find(self, module: str, name: str, ordinary: Callable[[str, str], Any]) -> Any:
        """Look one up; `ordinary` is the unpickler's own way."""
        if (module, name) == LIVE_GLOBALS:
            return lambda: self._namespace
        found = ordinary(module, name)
        if self._foreign is not None and (module, name) == MADE_TYPES:
            return self._without_code(found)
        return found

    def _without_code(self, ordinary: Callable[[str], Any]) -> Callable[[str], Any]:
        def made(name: str) -> Any:
            if getattr(types, name, None) is types.CodeType:
                raise RuntimeError(f"it holds code that Python {self._foreign} has compiled")
            return ordinary(name)

        return made


class Reader(pickle.Unpickler):
    """Reads one pickle after the other, all with one memo; the first failure makes it useless."""

    def __init__(self, file: Any, names: Names, buffers: Iterable[Any]) -> None:
        super().__init__(file, buffers=buffers)
        self._names = names

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        """Look up a global."""
        return self._names.find(module_name, global_name, super().find_class)
