"""`InlineEngine`: a core driven by a compute thread of this process."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from trainyard.core import errors
from trainyard.engine import calls, cores, protocol, streams, types
from trainyard.engine.line_engine import LineEngine
from trainyard.engine.loop import ComputeLoop
from trainyard.engine.switchboard import Switchboard, engine_away


class InlineLine:
    """The way between one event loop and a compute loop; it is its own outlet."""

    def __init__(self, compute: ComputeLoop) -> None:
        self.board = Switchboard()
        self._compute = compute
        self._events = asyncio.get_running_loop()

    async def call(self, number: int, call: calls.AnyCall) -> None:
        """Send a call."""
        self._compute.submit(self, number, call)

    def cancel(self, number: int) -> None:
        """Take back a call or end a stream."""
        self._compute.cancel(self, number)

    def credit(self, number: int, tokens: int) -> None:
        """Let a stream run further ahead."""
        self._compute.credit(self, number, tokens)

    def result(self, number: int, message: types.Message) -> None:
        """Answer a call, from the compute thread."""
        self._soon(lambda: self.board.result(number, message))

    def error(self, number: int, error: errors.TrainyardError) -> None:
        """Fail a call or end a stream, from the compute thread."""
        self._soon(lambda: self.board.error(number, error))

    def tokens(self, batch: list[protocol.Tokens]) -> None:
        """Hand over the tokens of a tick, from the compute thread."""
        self._soon(lambda: self.board.batch(batch))

    def _soon(self, arrive: Callable[[], object]) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed: nobody waits any more
            self._events.call_soon_threadsafe(arrive)


class InlineEngine(LineEngine):
    """Implements `Engine` in this process; the compute thread starts with the first call.

    Args:
        core: What computes; used by the compute thread only.
        stream_stall_s: A stream that is not read for this long is ended.
    """

    def __init__(self, core: cores.Core[Any], *, stream_stall_s: float = streams.STREAM_STALL_S) -> None:
        self._core = core
        self._stream_stall_s = stream_stall_s
        self._compute: ComputeLoop | None = None
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, InlineLine] = WeakKeyDictionary()
        self._is_closed = False

    async def ping(self) -> None:
        """Return once the compute thread answers."""
        await self.stats()

    async def aclose(self) -> None:
        """End streams, fail waiting calls, write every run durably and end the thread."""
        self._is_closed = True
        if self._compute is not None:
            await asyncio.to_thread(self._compute.drain)

    async def _line(self) -> InlineLine:
        if self._is_closed:
            raise engine_away("this engine is closed")
        if self._compute is None:
            self._compute = ComputeLoop(self._core, stream_stall_s=self._stream_stall_s)
            self._compute.start()
        events = asyncio.get_running_loop()
        if events not in self._lines:
            self._lines[events] = InlineLine(self._compute)
        return self._lines[events]
