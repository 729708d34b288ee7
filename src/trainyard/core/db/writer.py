"""Group commit for hot writes: statements of many requests, one transaction."""

import asyncio
import functools
from collections.abc import Callable, Sequence
from contextlib import suppress

from trainyard.core import errors
from trainyard.core.db import committing, writer_thread
from trainyard.core.db.committing import Committer
from trainyard.core.db.spool import Spool
from trainyard.core.db.statements import Write
from trainyard.core.db.writer_thread import Item, Outcome, Wake, WriterThread

__all__ = ["GroupWriter", "Outcome", "Wake", "Write"]

_THREADS_TURN_S = 1.0
_THREADS_TURN_LISTS = 1_000
"""After which the thread commits what the event loop could: its connection also moves the journal into the file."""

_MOST_AT_ONCE = 256
"""Lists that the event loop commits by itself, 3 ms of work."""

_STALL_S = 6.0
"""Longer than a healthy commit and than Postgres' own time-out of statements."""


class GroupWriter:
    """Commits what has gathered as one transaction: at once in the event loop, else in a thread of its own.

    The event loop does it where a commit is nothing but a write to the system's memory, which SQLite's is without
    `sync: full`: giving it to a thread costs three times as much, for the two fight for the interpreter. Whatever fails
    or would have to wait there, the thread does, which has a connection of its own.

    For one event loop at a time. A database that is away is looked for twice a second; what is in the spool is
    written as soon as it is found, what dead processes left too.
    """

    def __init__(
        self, url: str, *, sync: str = "normal", spool: Spool | None = None, max_waiting: int = 20_000
    ) -> None:
        """Prepare; the thread begins with the first write.

        Args:
            url: As of `Database`.
            sync: As of `Database`.
            spool: Where lists that may go there wait while the database is away.
            max_waiting: Lists that may wait at once; one more is refused.
        """
        self._connect = functools.partial(committing.connect, url, sync)
        self._connect_quick = functools.partial(committing.connect_quick, url, sync)
        self._quick: Committer | None = None
        self._may_be_quick = False
        self._quick_lists = 0
        self._thread_done_s = 0.0
        self._spool = spool
        self._max_waiting = max_waiting
        self._thread: WriterThread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._gathering: list[Item] = []
        self._has_looked = False
        self._waiting = 0
        self._watch: asyncio.TimerHandle | None = None
        self._is_closed = False
        self._on_spooled: Callable[[Sequence[Write]], None] | None = None
        self._on_replayed: Callable[[], None] | None = None

    @property
    def waiting(self) -> int:
        """Lists that are neither written nor refused yet."""
        return self._waiting

    def observe(self, on_spooled: Callable[[Sequence[Write]], None], on_replayed: Callable[[], None]) -> None:
        """Have the event loop call one with each list that went to the spool, the other when the spool is empty."""
        self._on_spooled, self._on_replayed = on_spooled, on_replayed

    async def start(self) -> None:
        """Connect and write what is in the spool; when the database is away it returns without, and goes on trying."""
        self._may_be_quick = True
        with suppress(errors.Unavailable):
            await self.write([])

    async def write(self, writes: Sequence[Write]) -> None:
        """Make one list durable in the database, all of it or nothing.

        Raises:
            errors.Unavailable: Code `ledger_unavailable`: the database is gone, locked or full, or too much waits.
            errors.Conflict: Code `write_conflict`: a constraint forbids it.
            errors.InvalidRequest: Code `unstorable_value`.
        """
        await self.submit(writes)

    def submit(self, writes: Sequence[Write], *, may_spool: bool = False) -> asyncio.Future[bool]:
        """Give one list to be written; whether the caller waits or not, it is.

        Args:
            writes: All or nothing.
            may_spool: Whether it may wait in the spool; then it must do no harm when it runs twice, late, or after
                lists that were submitted later.

        Returns:
            Resolves to True when the list is in the database, to False when it is in the spool; raises as `write`.
            Cancelling it stops nothing.
        """
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.submit_then(writes, functools.partial(writer_thread.wake_future, future), may_spool=may_spool)
        return future

    def submit_then(self, writes: Sequence[Write], wake: Wake, *, may_spool: bool = False) -> None:
        """Give one list to be written as `submit` does, and have `wake` called, later, with what became of it."""
        if self._thread is None or self._waiting >= self._max_waiting:
            self._begin_or_refuse()
        if not self._gathering:
            assert self._loop is not None
            self._loop.call_soon(self._hand_over)  # once for all that is submitted in this turn of the loop
        self._gathering.append(Item(writes, wake, may_spool))
        self._waiting += 1

    async def aclose(self) -> None:
        """Write what waits and end the thread; what comes later is refused."""
        self._is_closed = True
        self._close_quick()  # before the thread's connection: the last one moves the journal, and waits for the disk
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._hand_over_to(thread)
        thread.put(None)
        await asyncio.to_thread(thread.join)
        await asyncio.sleep(0)  # the last answers stand in the loop's queue before our own waking
        if self._watch is not None:
            self._watch.cancel()

    # ------------------------------------------------------------------ inside

    def _begin_or_refuse(self) -> None:
        if self._is_closed or self._waiting >= self._max_waiting:
            raise committing.away(None)
        self._loop = asyncio.get_running_loop()
        self._thread = WriterThread(self._connect, self._spool, self._answer, self._replayed)
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self._loop.call_later(1, self._look)

    def _hand_over(self) -> None:
        """Hand over what has gathered; where requests come together, after one turn more, in which others come.

        A commit costs as much as ten lists, so that fewer of them are worth more than that turn.
        """
        if len(self._gathering) > 1 and not self._has_looked:
            self._has_looked = True
            assert self._loop is not None
            self._loop.call_soon(self._hand_over)
        elif self._thread is not None:
            self._hand_over_to(self._thread)

    def _hand_over_to(self, thread: WriterThread) -> None:
        batch, self._gathering = self._gathering, []
        self._has_looked = False
        if thread.is_over:
            self._thread = None  # the next write begins another
            self._resolve(batch, committing.away(None))
        elif batch and not self._has_committed(batch, thread):
            thread.put(batch)

    def _has_committed(self, batch: list[Item], thread: WriterThread) -> bool:
        """Commit here and now, unless it is the thread's turn, or it has something that came before, or it fails."""
        if self._quick is None or self._is_threads_turn(len(batch)):
            return False
        try:
            self._quick.commit([item.writes for item in batch])
        except errors.TrainyardError:
            return False
        except BaseException:
            thread.put(batch)  # a fault of ours is one there too, and is told to those who wait
            raise
        self._quick_lists += len(batch)
        self._resolve(batch, True)
        return True

    def _is_threads_turn(self, lists: int) -> bool:
        assert self._loop is not None
        return (
            self._waiting > lists
            or lists > _MOST_AT_ONCE
            or self._quick_lists >= _THREADS_TURN_LISTS
            or self._loop.time() - self._thread_done_s > _THREADS_TURN_S
        )

    def _close_quick(self) -> None:
        quick, self._quick = self._quick, None
        if quick is not None:
            quick.close()

    def _look(self) -> None:
        """Look once a second whether a commit hangs."""
        if self._thread is not None and self._loop is not None:
            self._thread.interrupt_stalled(_STALL_S)
            self._watch = self._loop.call_later(1, self._look)

    def _answer(self, items: Sequence[Item], outcome: Outcome) -> None:
        """Called in the thread."""
        self._call(self._after_thread, items, outcome)

    def _replayed(self) -> None:
        """Called in the thread."""
        if self._on_replayed is not None:
            self._call(self._on_replayed)

    def _call(self, function: Callable[..., None], *args: object) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(function, *args)

    def _after_thread(self, items: Sequence[Item], outcome: Outcome) -> None:
        if outcome is True:
            self._after_commit()
        elif outcome is False or isinstance(outcome, errors.Unavailable):
            self._close_quick()  # the thread looks for the database anew: so do we, after it
        self._resolve(items, outcome)

    def _after_commit(self) -> None:
        assert self._loop is not None
        self._thread_done_s, self._quick_lists = self._loop.time(), 0
        if self._quick is None and self._may_be_quick and not self._is_closed:
            with suppress(errors.TrainyardError):
                self._quick = self._connect_quick()
                self._may_be_quick = self._quick is not None  # else there is no such thing for this database

    def _resolve(self, items: Sequence[Item], outcome: Outcome) -> None:
        self._waiting -= len(items)
        if outcome is False and self._on_spooled is not None:
            for item in items:
                self._on_spooled(item.writes)
        writer_thread.resolve(items, outcome)
