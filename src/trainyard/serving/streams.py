"""One generation that several listen to: what was drawn is recorded, and everybody reads it at his own pace."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from trainyard.core import errors
from trainyard.serving.types import Piece, pieces
from trainyard.serving.types.tally import Tally

Event = tuple[int, Piece]
"""Index of the answer, and what is new of it."""

Step = Callable[["Broadcast"], Awaitable[None]]
"""Work that is done for a broadcast, or what follows it."""

HEARTBEAT_S = 15.0
MAX_AHEAD = 256
"""Pieces that are drawn beyond what the fastest listener has read; then the work waits."""


class Broadcast:
    """Work in a task of its own, and those who listen to it; it goes on while anybody does.

    Attributes:
        record: Everything so far.
        tally: What it comes to.
        is_over: Whether it has ended, well or not.
    """

    def __init__(self, tally: Tally) -> None:
        self.record: list[Event] = []
        self.tally = tally
        self.is_over = False
        self._error: BaseException | None = None
        self._listeners: list[Listener] = []
        self._task: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._has_begun = False  # a task that is cancelled before its first step would not even run its `finally`

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    @property
    def is_far_ahead(self) -> bool:
        """Whether nobody has read what came long ago."""
        return len(self.record) - max([one.position for one in self._listeners], default=0) >= MAX_AHEAD

    def start(
        self,
        work: Callable[["Broadcast"], Awaitable[None]],
        then: Callable[["Broadcast"], Awaitable[None]] | None = None,
    ) -> None:
        """Begin the work; `then` follows once it is over, whatever became of it."""
        self._task = asyncio.create_task(self._run(work, then), name="generation")

    def listen(self, heartbeat_s: float = HEARTBEAT_S) -> "Listener":
        """Listen from the beginning."""
        made = Listener(self, heartbeat_s)
        self._listeners.append(made)
        return made

    def put(self, index: int, piece: Piece) -> None:
        """Record what is new of one answer and wake those who wait."""
        self.tally.add(index, piece)
        self.record.append((index, piece))
        for listener in self._listeners:
            listener.wake()

    async def room(self) -> None:
        """Wait until somebody has caught up or nobody listens."""
        while self.is_far_ahead:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def moved(self) -> None:
        """Tell that a listener has read on or left."""
        if self._room is not None and not self._room.done() and not self.is_far_ahead:
            self._room.set_result(None)

    def pieces(self) -> Sequence[Piece]:
        """Put every answer together.

        Raises:
            errors.TrainyardError: What ended the work; a new one for each caller.
        """
        self.check()
        parts: dict[int, list[Piece]] = {}
        for index, piece in self.record:
            parts.setdefault(index, []).append(piece)
        return [pieces.join(parts[index]) for index in sorted(parts)]

    def check(self) -> None:
        """Raise what ended the work, a new error for each caller."""
        error = self._error
        if isinstance(error, errors.TrainyardError):
            raise copied(error)
        if error is not None:
            raise errors.TrainyardError("The generation ended by an unforeseen error; the log says which") from error

    @property
    def has_failed(self) -> bool:
        """Whether it ended by an error."""
        return self._error is not None

    def forget(self, listener: "Listener") -> None:
        """Count one listener less; the last one's leaving ends the work."""
        if listener in self._listeners:
            self._listeners.remove(listener)
        if not self._listeners and self._has_begun and not self.is_over:
            assert self._task is not None, "what has begun is a task"
            self._task.cancel()
        self.moved()

    async def ended(self) -> None:
        """Wait until the work has ended and `then` is done; whoever waits does not matter to it."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self, work: Step, then: Step | None) -> None:
        try:
            self._has_begun = True
            if self._listeners:
                await work(self)
            else:
                self._error = _unwanted()
        except asyncio.CancelledError:
            self._error = _unwanted()
        except errors.TrainyardError as error:
            self._error = error
        except BaseException as error:
            self._error = error
            raise
        finally:
            self.is_over = True
            for listener in self._listeners:
                listener.wake()
            if then is not None:
                await then(self)


class Listener:
    """One who reads a broadcast.

    Attributes:
        position: Events that were read.
    """

    __slots__ = ("_broadcast", "_heartbeat_s", "_quiet_since_s", "_timer", "_waiting", "position")

    def __init__(self, broadcast: Broadcast, heartbeat_s: float) -> None:
        self.position = 0
        self._broadcast = broadcast
        self._heartbeat_s = heartbeat_s
        self._quiet_since_s = 0.0
        self._waiting: asyncio.Future[bool] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def take(self) -> Sequence[Event] | None:
        """Read what is new: at least one event; none after a silence; None at the end.

        Raises:
            errors.TrainyardError: What ended the work.
        """
        broadcast = self._broadcast
        while self.position == len(broadcast.record):
            if broadcast.is_over:
                broadcast.check()
                return None
            if not await self._news():
                return ()
        new = broadcast.record[self.position :]
        self.position = len(broadcast.record)
        broadcast.moved()
        return new

    async def pieces(self) -> Sequence[Piece]:
        """Wait for the end and put every answer together; raises as `take`."""
        while not self._broadcast.is_over:
            self.position = len(self._broadcast.record)
            self._broadcast.moved()
            await self._news()
        return self._broadcast.pieces()

    def leave(self) -> None:
        """Listen no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._broadcast.forget(self)

    def wake(self) -> None:
        """Something is new."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(True)

    async def _news(self) -> bool:
        loop = asyncio.get_running_loop()
        self._waiting, self._quiet_since_s = loop.create_future(), loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._heartbeat_s, self._tick)
        try:
            return await self._waiting
        finally:
            self._waiting = None

    def _tick(self) -> None:
        """One timer for all waits: it looks whether this one has been long, and rings again when it can be."""
        loop = asyncio.get_running_loop()
        left_s = self._quiet_since_s + self._heartbeat_s - loop.time()
        if left_s <= 0.001:
            left_s = self._heartbeat_s
            if self._waiting is not None and not self._waiting.done():
                self._waiting.set_result(False)
        self._timer = loop.call_later(left_s, self._tick)


def _unwanted() -> errors.Unavailable:
    return errors.Unavailable("Nobody waited for this answer any more", code="generation_cancelled")


def copied(error: errors.TrainyardError) -> errors.TrainyardError:
    """Make an equal error, since one that several tasks raise would collect their tracebacks."""
    return type(error)(
        error.message, code=error.code, param=error.param, retry_after_s=error.retry_after_s, data=error.data
    )
