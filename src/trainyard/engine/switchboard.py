"""Answers on their way to the coroutines that wait for them: a future per call, a queue per token stream."""

import asyncio
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from trainyard.core import errors
from trainyard.engine import calls, protocol, types

Arrival = list[types.TokenEvent] | errors.TrainyardError
"""What a stream's queue holds: the tokens of one tick, or the error that ends it."""


class Switchboard:
    """Numbers calls and streams, and routes what arrives for them; used from one event loop."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._calls: dict[int, asyncio.Future[types.Message]] = {}
        self._streams: dict[int, asyncio.Queue[Arrival]] = {}

    @contextmanager
    def call(self) -> Iterator[tuple[int, asyncio.Future[types.Message]]]:
        """Number a call and wait for its answer inside the block."""
        number = next(self._numbers)
        future = asyncio.get_running_loop().create_future()
        self._calls[number] = future
        try:
            yield number, future
        finally:
            del self._calls[number]
            future.cancel()

    @contextmanager
    def stream(self) -> Iterator[tuple[int, asyncio.Queue[Arrival]]]:
        """Number a stream and read its arrivals inside the block."""
        number = next(self._numbers)
        self._streams[number] = asyncio.Queue()
        try:
            yield number, self._streams[number]
        finally:
            del self._streams[number]

    def result(self, number: int, message: types.Message) -> None:
        """Answer a call; a call that nobody waits for any more is ignored."""
        if (future := self._calls.get(number)) is not None and not future.done():
            future.set_result(message)

    def error(self, number: int, error: errors.TrainyardError) -> None:
        """Fail a call or end a stream."""
        if (future := self._calls.get(number)) is not None and not future.done():
            future.set_exception(error)
        if (queue := self._streams.get(number)) is not None:
            queue.put_nowait(error)

    def tokens(self, number: int, events: list[types.TokenEvent]) -> None:
        """Hand tokens to a stream."""
        if (queue := self._streams.get(number)) is not None:
            queue.put_nowait(events)

    def batch(self, batch: list[protocol.Tokens]) -> None:
        """Hand the tokens of one tick to their streams."""
        for tokens in batch:
            self.tokens(tokens.stream, tokens.events)

    def fail_all(self, error: errors.TrainyardError) -> None:
        """Fail every call and end every stream that is in flight."""
        for number in [*self._calls, *self._streams]:
            self.error(number, copy_error(error))


def copy_error(error: errors.TrainyardError) -> errors.TrainyardError:
    """Make an equal error, since an exception that several tasks raise would collect their tracebacks."""
    cls = type(error)
    return cls(error.message, code=error.code, param=error.param, retry_after_s=error.retry_after_s, data=error.data)


def engine_away(reason: str) -> errors.Unavailable:
    """Build the error of every call that an engine's death interrupts."""
    message = f"the engine is restarting ({reason}); runs come back at their last durable step, retry shortly"
    return errors.Unavailable(message, code="engine_restarting", retry_after_s=1.0)


class Line(Protocol):
    """An open way to a compute loop, with the switchboard that its answers arrive at."""

    @property
    def board(self) -> Switchboard:
        """Where answers arrive."""
        ...

    async def call(self, number: int, call: calls.AnyCall) -> None:
        """Send a call."""
        ...

    def cancel(self, number: int) -> None:
        """Take back a call that did not begin, or end a stream at the next tick."""
        ...

    def credit(self, number: int, tokens: int) -> None:
        """Let a stream run further ahead."""
        ...
