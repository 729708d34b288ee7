"""Reading a checkpoint of which a part cannot be made here: the rest comes back, and each loss has its reason.

Slow and only used after the ordinary unpickler has failed. This one goes on after a failure: an object that cannot be
made is a `Lost` in its place, so that those after it find in the memo what they share with those before.
"""

import gc
import pickle
import types
from collections.abc import Callable, Iterable
from typing import Any

from trainyard.sandbox.inside import border, unpickling

ORDINARY: dict[int, Callable[[Any], None]] = dict(pickle._Unpickler.dispatch)
FILLING = (pickle.APPEND[0], pickle.APPENDS[0], pickle.SETITEM[0], pickle.SETITEMS[0], pickle.ADDITEMS[0])


class Lost:
    """Stands where an object could not be made; takes everything that a pickle may want to put into it.

    Attributes:
        reason: Why not.
        subject: First argument of the call that failed; where only its effect was wanted, that is half-made now.
    """

    def __init__(self, reason: str, subject: Any = None) -> None:
        self.reason = reason
        self.subject = subject

    def __setstate__(self, state: object) -> None:
        """Ignore a state."""

    def __setitem__(self, key: object, value: object) -> None:
        """Ignore an item."""

    def extend(self, items: Iterable[object]) -> None:
        """Ignore items."""

    def add(self, item: object) -> None:
        """Ignore an item."""

    append = add


def _filling(load: Callable[[Any], None]) -> Callable[[Any], None]:
    """Let an opcode that fills a container fail; the container is half-made then."""

    def fill(reader: "Salvage") -> None:
        _, failure = border.attempt(load, reader)
        if failure is not None:
            reader.mark(reader.stack[-1], failure)

    return fill


class Salvage(pickle._Unpickler):
    """Reads one pickle after the other with one memo, whatever fails in them."""

    stack: list[Any]

    def __init__(self, file: Any, names: unpickling.Names, namespace: dict[str, Any], buffers: Iterable[Any]) -> None:
        super().__init__(file, buffers=iter(buffers))
        self._names = names
        self._namespace = namespace
        self._is_whole = True
        """Until the first loss, so that nothing has to be searched before it."""
        self._broken: dict[int, tuple[str, Any]] = {}
        """By the id of what is half-made: the reason, and itself, so that the id stays its own."""

    def find_class(self, module: str, name: str) -> Any:
        """Look up a global."""
        found, failure = border.attempt(self._names.find, module, name, super().find_class)
        return found if failure is None else self._lost(failure)

    def loss(self, value: Any) -> str | None:
        """Tell why something that a value holds is lost or half-made; None when it is whole."""
        if self._is_whole:
            return None
        waiting, seen = [value], set()
        while waiting:
            item = waiting.pop()
            if id(item) in seen or self._is_elsewhere(item):
                continue
            seen.add(id(item))
            if type(item) is Lost:
                return item.reason
            if id(item) in self._broken:
                return self._broken[id(item)][0]
            waiting += gc.get_referents(item)
        return None

    def _is_elsewhere(self, item: Any) -> bool:
        """Whether it is not of the pickle: the namespace, modules, and what is found in them by name."""
        if type(item) is types.FunctionType:
            return item.__globals__ is not self._namespace
        kinds = type(item).__mro__
        if type in kinds:
            return bool(border.said_of(item, "__module__") != "__main__")
        return item is self._namespace or types.ModuleType in kinds or types.BuiltinFunctionType in kinds

    def _made(self, make: Any, *parts: Any, **named: Any) -> Any:
        reason = self.loss((make, parts, named))
        if reason is None:
            made, reason = border.attempt(make, *parts, **named)
        return made if reason is None else self._lost(reason, parts[0] if parts else None)

    def _lost(self, reason: str, subject: Any = None) -> Lost:
        self._is_whole = False
        return Lost(reason, subject)

    def mark(self, item: Any, reason: str) -> None:
        """Note that something is half-made."""
        if type(item) is not Lost:
            self._is_whole = False
            self._broken.setdefault(id(item), (reason, item))

    def make_reduced(self) -> None:
        """REDUCE: call a function."""
        args = self.stack.pop()
        self.stack[-1] = self._made(self.stack[-1], *args)

    def make_new(self) -> None:
        """NEWOBJ: make an instance."""
        args = self.stack.pop()
        kind = self.stack[-1]
        self.stack[-1] = kind if type(kind) is Lost else self._made(kind.__new__, kind, *args)

    def make_new_named(self) -> None:
        """NEWOBJ_EX: make an instance with named arguments."""
        named, args = self.stack.pop(), self.stack.pop()
        kind = self.stack[-1]
        self.stack[-1] = kind if type(kind) is Lost else self._made(kind.__new__, kind, *args, **named)

    def set_state(self) -> None:
        """BUILD: give an instance its state; arrays of objects hide theirs, so it is looked at before."""
        loss = self.loss(self.stack[-1])
        _, failure = border.attempt(ORDINARY[pickle.BUILD[0]], self)
        if loss is not None or failure is not None:
            self.mark(self.stack[-1], loss or str(failure))

    def drop(self) -> None:
        """POP: forget a result; when there is none, what the call was to change is half-made."""
        if self.stack and type(self.stack[-1]) is Lost:
            self.mark(self.stack[-1].subject, self.stack[-1].reason)
        ORDINARY[pickle.POP[0]](self)

    dispatch = ORDINARY | {
        pickle.REDUCE[0]: make_reduced,
        pickle.NEWOBJ[0]: make_new,
        pickle.NEWOBJ_EX[0]: make_new_named,
        pickle.BUILD[0]: set_state,
        pickle.POP[0]: drop,
        **{code: _filling(ORDINARY[code]) for code in FILLING},
    }
