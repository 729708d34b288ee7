"""Rows that the event loop reads by itself: of a file that is in memory that takes less time than to wake a thread."""

import contextlib
import os
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy.engine import URL

_LOOK_S = 1.0


class NotAtOnce(Exception):
    """A thread has to look, which may wait, and which says what is wrong."""


class Glance:
    """A connection to SQLite that only reads, and waits for nobody. For one thread at a time.

    A file that is taken away or replaced under it is noticed within a second, as it is by who writes.
    """

    def __init__(self, url: URL) -> None:
        """Prepare; the file is opened by the first look."""
        self._path = Path(url.database or "")
        self._connection: sqlite3.Connection | None = None
        self._file: os.stat_result | None = None
        self._looked_s = 0.0

    def first(self, sql: str, values: Mapping[str, object]) -> dict[str, Any] | None:
        """Read the first row of a statement as it is committed now, by column; None where there is none.

        Raises:
            NotAtOnce: It is not to be had without waiting, or at all.
        """
        try:
            found = self._opened().execute(sql, values).fetchall()  # to the end: nothing is held any longer
        except (sqlite3.Error, OSError, ValueError, OverflowError) as error:
            self.close()
            raise NotAtOnce from error
        return dict(found[0]) if found else None

    def close(self) -> None:
        """Let go of the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    def _opened(self) -> sqlite3.Connection:
        if self._connection is not None and time.monotonic() < self._looked_s + _LOOK_S:
            return self._connection
        file, self._looked_s = self._path.stat(), time.monotonic()
        if self._connection is not None and self._file is not None and os.path.samestat(file, self._file):
            return self._connection
        self.close()
        uri = f"file:{quote(str(self._path))}?mode=ro"
        made = sqlite3.connect(uri, uri=True, timeout=0.0, isolation_level=None, check_same_thread=False)
        made.row_factory = sqlite3.Row
        self._connection, self._file = made, file
        return made
