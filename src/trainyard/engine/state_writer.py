"""Durable writes of run states beside the compute thread: one at a time per run, the newest state wins."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import structlog

from trainyard.engine import cores

POLL_S: Final = 5.0
"""How often a state that was not due yet is looked at again; small beside the 60 s that large states wait."""

_log = structlog.get_logger(__name__)


class StateWriter:
    """Asks the core for snapshots (in the compute thread) and writes them in a thread of its own.

    Args:
        core: Makes and writes snapshots.
        post: Runs a function in the compute thread, later.
        monotonic: Seconds of a clock that only goes forward.
    """

    def __init__(
        self,
        core: cores.Core[Any],
        post: Callable[[Callable[[], None]], None],
        monotonic: Callable[[], float],
    ) -> None:
        self._core = core
        self._post = post
        self._monotonic = monotonic
        self._polled_at = monotonic()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="state-writer")
        self._in_flight: dict[str, Future[int]] = {}
        self._waiting: set[str] = set()

    @property
    def has_waiting(self) -> bool:
        """Some run is ahead of what was handed to the disk."""
        return bool(self._waiting)

    def changed(self, run_id: str) -> None:
        """Write the run's state in the background when it is due, else look at it again in `poll`."""
        self._waiting.add(run_id)
        if run_id in self._in_flight:
            return
        snapshot = self._core.snapshot_if_due(run_id)
        if snapshot is None:
            return
        self._waiting.discard(run_id)
        future = self._pool.submit(self._core.write_state, snapshot)
        self._in_flight[run_id] = future
        future.add_done_callback(lambda done: self._post(lambda: self._written(run_id, done)))

    def poll(self) -> None:
        """Look again at the states that were not due or that the disk refused, every `POLL_S`."""
        if not self._waiting or self._monotonic() - self._polled_at < POLL_S:
            return
        self._polled_at = self._monotonic()
        for run_id in list(self._waiting):
            self.changed(run_id)

    def flush(self, run_id: str) -> None:
        """Write the newest state before returning; raises OSError when the disk refuses."""
        if (future := self._in_flight.pop(run_id, None)) is not None:
            self._finish(run_id, future)
        snapshot = self._core.snapshot_if_due(run_id, force=True)
        if snapshot is not None:
            self._core.mark_durable(run_id, self._core.write_state(snapshot))
        self._waiting.discard(run_id)

    def forget(self, run_id: str) -> None:
        """Wait for a write of a run that is about to close, so that an older state never follows a newer one."""
        if (future := self._in_flight.pop(run_id, None)) is not None:
            self._finish(run_id, future)
        self._waiting.discard(run_id)  # last: a write that failed would have put the run back

    def close(self) -> None:
        """Wait for the writes in flight."""
        self._pool.shutdown(wait=True)

    def _written(self, run_id: str, future: Future[int]) -> None:
        if self._in_flight.get(run_id) is not future:
            return
        del self._in_flight[run_id]
        if self._finish(run_id, future) and run_id in self._waiting:
            self.changed(run_id)

    def _finish(self, run_id: str, future: Future[int]) -> bool:
        error = future.exception()
        if error is None:
            self._core.mark_durable(run_id, future.result())
            return True
        if not isinstance(error, OSError):
            raise error
        self._waiting.add(run_id)
        _log.error("state_not_written", run_id=run_id, error=str(error))
        return False
