"""How much of a journal is in use, as SQLite itself writes it."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainyard.core.db import journal

ROW = b"x" * 1_000_000


@pytest.fixture(params=[1024, 4096, 65536])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    opened = sqlite3.connect(tmp_path / "file.db", isolation_level=None)
    opened.execute(f"PRAGMA page_size = {request.param}")
    opened.execute("PRAGMA journal_mode = WAL")
    opened.execute("PRAGMA wal_autocheckpoint = 0")
    opened.execute("CREATE TABLE t (x)")
    yield opened
    opened.close()


def add(connection: sqlite3.Connection, rows: int) -> None:
    for _ in range(rows):
        connection.execute("INSERT INTO t VALUES (?)", (ROW,))


def test_a_journal_is_full_when_what_is_in_use_is_long(connection: sqlite3.Connection, tmp_path: Path) -> None:
    path = tmp_path / "file.db-wal"
    assert not journal.is_full(path)
    add(connection, 7)
    assert not journal.is_full(path)
    add(connection, 2)
    assert journal.is_full(path)
    assert connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()[0] == 0
    add(connection, 1)  # begins it anew: the rest of the file is of before
    assert path.stat().st_size > journal.LONG_BYTES
    assert not journal.is_full(path)
    add(connection, 8)
    assert journal.is_full(path)


def test_a_journal_is_too_long_at_twice_that(connection: sqlite3.Connection, tmp_path: Path) -> None:
    path = tmp_path / "file.db-wal"
    add(connection, 12)
    assert not journal.is_too_long(path)
    add(connection, 6)
    assert journal.is_too_long(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert not journal.is_too_long(path)


@pytest.mark.parametrize("content", [None, b"", b"short", b"\0" * 32])
def test_a_journal_without_frames_is_neither(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "file.db-wal"
    if content is not None:
        path.write_bytes(content)
    assert not journal.is_full(path)
    assert not journal.is_too_long(path)
