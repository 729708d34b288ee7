"""Turns a function that builds a call into a method that makes it, with the same parameters and documentation."""

import functools
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

P = ParamSpec("P")
C = TypeVar("C")
T = TypeVar("T")


class Verb(Generic[P, C, T]):
    """A method of a client: builds the call from the arguments and has it performed.

    Seen from the class, not from a client, it is the builder.
    """

    def __init__(self, build: Callable[P, C], perform: Callable[[Any, C], T]) -> None:
        """Bind the two halves.

        Args:
            build: Arguments to call.
            perform: (client, call) to result; blocking, async or a stream.
        """
        self._build = build
        self._perform = perform

    @overload
    def __get__(self, client: None, owner: type) -> Callable[P, C]: ...
    @overload
    def __get__(self, client: object, owner: type) -> Callable[P, T]: ...
    def __get__(self, client: object | None, owner: type) -> Callable[P, C] | Callable[P, T]:
        if client is None:
            return self._build

        @functools.wraps(self._build)
        def method(*args: P.args, **kwargs: P.kwargs) -> T:
            return self._perform(client, self._build(*args, **kwargs))

        return method


class OwnVerb(Generic[P, C, T]):
    """A method of a run or of a session: the client's verb with its id as first argument."""

    def __init__(self, build: Callable[Concatenate[str, P], C], perform: Callable[[Any, C], T]) -> None:
        """Bind the two halves.

        Args:
            build: Id and arguments to call.
            perform: (client, call) to result; blocking, async or a stream.
        """
        self._build = build
        self._perform = perform

    def __get__(self, thing: Any, owner: type) -> Callable[P, T]:
        def method(*args: P.args, **kwargs: P.kwargs) -> T:
            return self._perform(thing.client, self._build(thing.own_id, *args, **kwargs))

        method.__name__, method.__doc__ = self._build.__name__, self._build.__doc__
        return method
