"""The thread of the group-commit writer: takes what has gathered, commits it, and says so to the event loop."""

import asyncio
import copy
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import structlog

from trainyard.core import errors
from trainyard.core.db import committing
from trainyard.core.db.committing import Committer
from trainyard.core.db.spool import Spool
from trainyard.core.db.statements import Write

Outcome = bool | errors.TrainyardError
"""True: in the database. False: in the spool. Else: nowhere, and why."""

Wake = Callable[[Outcome], None]
"""Takes what became of one list."""

_MAX_BATCH = 4096
"""Lists in one transaction; more would make the first of them wait for no gain."""

_REPLAY_BATCH = 500
"""Lists replayed between two looks at the queue, some milliseconds of work."""

_PROBE_S = 0.5

_log = structlog.get_logger("writer")


class Item(NamedTuple):
    """One list that waits.

    Attributes:
        writes: All or nothing.
        wake: Tells the one who waits, in its event loop.
        may_spool: Whether it is as good as written when it is in the spool.
    """

    writes: Sequence[Write]
    wake: "Wake"
    may_spool: bool


class WriterThread:
    """Owns the connection and the spool; everything but `put`, `interrupt_stalled` and `join` runs in the thread.

    Attributes:
        put: Gives it a list of items, or None to end it.
        is_over: Whether it has ended, or is about to; by a fault of its own, unless None was put.

    Args:
        connect: Opens a connection; raises `errors.Unavailable`.
        spool: Where lists go that may; None: they fail like all others.
        answer: Called in the thread with items of one outcome.
        on_replayed: Called in the thread when the spool has become empty.
    """

    def __init__(
        self,
        connect: Callable[[], Committer],
        spool: Spool | None,
        answer: Callable[[Sequence[Item], Outcome], None],
        on_replayed: Callable[[], None],
    ) -> None:
        self._connect = connect
        self._spool = spool
        self._answer = answer
        self._on_replayed = on_replayed
        self._queue: queue.SimpleQueue[list[Item] | Committer | None] = queue.SimpleQueue()
        self._committer: Committer | None = None
        self._is_replaying = False
        self._busy_since: float | None = None
        self._closing = threading.Event()
        self._prober: threading.Thread | None = None
        self.is_over = False
        self.put = self._queue.put
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    def interrupt_stalled(self, after_s: float) -> None:
        """Cut the connection when a commit hangs for longer than this."""
        since, committer = self._busy_since, self._committer
        if since is not None and committer is not None and time.monotonic() - since > after_s:
            _log.warning("commit_stalled", after_s=after_s)
            committer.interrupt()

    def join(self) -> None:
        """Wait until everything that was put before None is done and all files are closed."""
        self._thread.join()

    # ------------------------------------------------------------------ inside

    def _run(self) -> None:
        items: list[Item] = []
        try:
            self._open()
            while True:
                items, control, is_over = self._take()
                if items:
                    self._process(items)
                    items = []
                if control is not None:
                    self._found(control)
                if is_over:
                    break
                if self._is_replaying:
                    self._replay()
        finally:
            self._close(items)

    def _take(self) -> tuple[list[Item], Committer | None, bool]:
        """Wait for something and take all that is there, up to a change of the connection or the end."""
        items: list[Item] = []
        try:
            message = self._queue.get(block=not self._is_replaying)
            while isinstance(message, list):
                items += message
                if len(items) >= _MAX_BATCH:
                    return items, None, False
                message = self._queue.get_nowait()
        except queue.Empty:
            return items, None, False
        return items, message, message is None

    def _process(self, items: Sequence[Item]) -> None:
        if self._committer is None:
            self._divert(items, None)
            return
        try:
            self._commit([item.writes for item in items])
        except errors.Unavailable as error:
            self._lose(error)
            self._divert(items, error)
        except errors.TrainyardError as error:
            if len(items) == 1:
                self._answer(items, error)
                return
            for item in items:  # so that only the guilty one fails
                self._process([item])
        else:
            self._answer(items, True)

    def _commit(self, lists: Sequence[Sequence[Write]]) -> None:
        assert self._committer is not None
        self._busy_since = time.monotonic()
        try:
            self._committer.commit(lists)
        finally:
            self._busy_since = None

    def _divert(self, items: Sequence[Item], cause: errors.Unavailable | None) -> None:
        """Put what may wait into the spool; tell all others that the database is away."""
        away = cause or committing.away(None)
        fit = [item for item in items if item.may_spool and self._spool is not None]
        others = [item for item in items if not (item.may_spool and self._spool is not None)]
        if others:
            self._answer(others, away)
        if fit and self._spool is not None:
            self._keep(fit, self._spool)

    def _keep(self, items: Sequence[Item], spool: Spool) -> None:
        try:
            spool.append([item.writes for item in items])
        except OSError as error:
            _log.error("spool_unwritable", reason=str(error))
            self._answer(items, committing.away(error))
        except errors.InvalidRequest as error:
            if len(items) == 1:
                self._answer(items, error)
                return
            for item in items:
                self._keep([item], spool)
        else:
            self._answer(items, False)

    # ------------------------------------------------------------------ the connection

    def _open(self) -> None:
        try:
            self._found(self._connect())
        except errors.TrainyardError as error:
            self._lose(error)
        while self._is_replaying:
            self._replay()

    def _found(self, committer: Committer) -> None:
        self._prober = None
        self._committer = committer
        if self._spool is None:
            return
        try:
            self._spool.adopt()
        except OSError as error:
            _log.error("spool_unreadable", reason=str(error))
        self._is_replaying = not self._spool.is_empty

    def _lose(self, error: errors.TrainyardError) -> None:
        _log.warning("database_away", reason=str(error.__cause__ or error))
        committer, self._committer, self._is_replaying = self._committer, None, False
        if committer is not None:
            committer.close()
        self._prober = threading.Thread(target=self._probe, name="writer-probe", daemon=True)
        self._prober.start()

    def _probe(self) -> None:
        """Try until there is a connection, in a thread of its own, so that nobody waits for a line that is dead."""
        while not self._closing.wait(_PROBE_S):
            try:
                committer = self._connect()
            except errors.TrainyardError:
                continue
            try:
                committer.probe()
            except errors.TrainyardError:
                committer.close()
                continue
            self._queue.put(committer)
            return

    # ------------------------------------------------------------------ the spool

    def _replay(self) -> None:
        assert self._spool is not None
        try:
            found = self._spool.next(_REPLAY_BATCH)
            if found is None:
                self._is_replaying = False
                self._on_replayed()
                return
            file, lists, position = found
            self._replay_lists(lists, self._spool)
            file.replayed(position)
            _log.info("spool_replayed", path=str(file.path), lists=len(lists))
        except errors.Unavailable as error:
            self._lose(error)
        except OSError as error:
            self._is_replaying = False
            _log.error("spool_unreadable", reason=str(error))

    def _replay_lists(self, lists: Sequence[Sequence[Write]], spool: Spool) -> None:
        try:
            self._commit(lists)
        except errors.Unavailable:
            raise
        except errors.TrainyardError:
            if len(lists) == 1:
                spool.refuse(lists[0])
                return
            for writes in lists:
                self._replay_lists([writes], spool)

    def _close(self, items: Sequence[Item]) -> None:
        """End; lists that came too late, or that a fault of this thread left behind, are told so."""
        self.is_over = True
        self._closing.set()
        if self._prober is not None:
            self._prober.join()
        left = list(items)
        while not self._queue.empty():
            message = self._queue.get_nowait()
            if isinstance(message, list):
                left += message
            elif message is not None:
                message.close()
        if left:
            self._answer(left, committing.away(None))
        if self._committer is not None:
            self._committer.close()
        if self._spool is not None:
            self._spool.close()


def resolve(items: Iterable[Item], outcome: Outcome) -> None:
    """Wake those who wait; runs in their event loop, and goes on there after one who fails at it."""
    left = iter(items)
    try:
        for item in left:
            item.wake(outcome)
    finally:
        rest = list(left)
        if rest:
            asyncio.get_running_loop().call_soon(resolve, rest, outcome)


def wake_future(future: asyncio.Future[bool], outcome: Outcome) -> None:
    """Resolve the future of one who waits, unless he has left."""
    if future.done():
        return
    if isinstance(outcome, bool):
        future.set_result(outcome)
        return
    error = copy.copy(outcome)  # each has a traceback of its own
    error.__cause__ = outcome.__cause__
    future.set_exception(error)
