"""Cutting lines to a Postgres that has stopped to answer without closing them, as a host that hangs does.

Libpq waits for an answer for as long as the line stands, and the kernel of a hanging process keeps it standing.
"""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

import structlog

_LOOK_S = 0.25

_log = structlog.get_logger("database")


class Line(Protocol):
    """A connection of a driver."""

    def fileno(self) -> int:
        """Tell its socket; raises when it is closed."""
        ...


class Patience:
    """Ends waits that last too long; a thread looks after them from the first one on."""

    def __init__(self) -> None:
        self._waits: dict[object, tuple[float, Line]] = {}
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def during(self, line: Line, patience_s: float) -> Iterator[None]:
        """Cut a line when the block lasts longer than this; what waits on it then fails as if the server had gone."""
        token = object()
        with self._lock:
            self._waits[token] = time.monotonic() + patience_s, line
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="database-patience", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:  # so that a line is never cut after its block, when its number may be another's
                self._waits.pop(token, None)

    def close(self) -> None:
        """End the thread."""
        self._is_over.set()
        if self._thread is not None:
            self._thread.join()

    def _look(self) -> None:
        while not self._is_over.wait(_LOOK_S):
            now_s = time.monotonic()
            with self._lock:
                for token, (ends_s, line) in list(self._waits.items()):
                    if now_s >= ends_s:
                        del self._waits[token]
                        _cut(line)


def _cut(line: Line) -> None:
    _log.warning("database_line_cut")
    # A line that its thread has found broken in this moment has no number any more; psycopg raises its own error.
    from psycopg import OperationalError

    with suppress(OperationalError, OSError), socket.socket(fileno=os.dup(line.fileno())) as cut:
        cut.shutdown(socket.SHUT_RDWR)
