"""One row, read at once where that waits for nobody."""

import asyncio
import shutil
import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from trainyard.core import errors
from trainyard.core.db import Database

FIND = "SELECT entry, at FROM things WHERE entry = :entry"


@pytest.fixture
def things(any_database: Database) -> Database:
    with any_database.begin() as connection:
        connection.execute(text("CREATE TABLE things (entry VARCHAR(8) PRIMARY KEY, at DOUBLE PRECISION)"))
    add(any_database, "a", 1.5)
    return any_database


def add(database: Database, entry: str, at: float | None) -> None:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO things VALUES (:entry, :at)"), {"entry": entry, "at": at})


async def test_a_row_comes_by_column_and_as_it_is_now(things: Database) -> None:
    assert await things.first(FIND, entry="a") == {"entry": "a", "at": 1.5}
    assert await things.first(FIND, entry="b") is None
    add(things, "b", None)
    assert await things.first(FIND, entry="b") == {"entry": "b", "at": None}


async def test_a_look_keeps_nobody_from_writing(things: Database) -> None:
    for number in range(20):
        assert await things.first(FIND, entry="a") is not None
        add(things, f"n{number}", 0.0)


async def test_a_look_does_not_wait_for_a_writer(things: Database) -> None:
    with things.begin() as connection:
        connection.execute(text("UPDATE things SET at = 2"))
        assert await things.first(FIND, entry="a") == {"entry": "a", "at": 1.5}
    assert await things.first(FIND, entry="a") == {"entry": "a", "at": 2.0}


@pytest.mark.parametrize("url", ["sqlite:////nowhere/at/all.db", "postgresql://user:word@127.0.0.1:9/nothing"])
async def test_a_database_that_is_away_is_unavailable(url: str) -> None:
    database = Database(url)
    with pytest.raises(errors.Unavailable):
        await database.first(FIND, entry="a")
    database.close()


def test_a_row_of_sqlite_needs_no_thread(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/a.db")
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE things (entry VARCHAR(8) PRIMARY KEY, at DOUBLE PRECISION)"))
    before = {thread.name for thread in threading.enumerate()}
    assert asyncio.run(database.first(FIND, entry="a")) is None
    assert {thread.name for thread in threading.enumerate()} == before
    database.close()


def test_another_file_in_the_place_of_the_database_is_seen(tmp_path: Path) -> None:
    paths = tmp_path / "a.db", tmp_path / "b.db"
    first, second = (Database(f"sqlite:///{path}") for path in paths)
    for database, entry in ((first, "a"), (second, "b")):
        with database.begin() as connection:
            connection.execute(text("CREATE TABLE things (entry VARCHAR(8) PRIMARY KEY, at DOUBLE PRECISION)"))
        add(database, entry, 1.0)
    assert asyncio.run(first.first(FIND, entry="a")) is not None
    second.close()
    for path in tmp_path.glob("a.db*"):
        path.unlink()
    shutil.move(paths[1], paths[0])

    async def is_seen() -> bool:
        return await first.first(FIND, entry="b") is not None and await first.first(FIND, entry="a") is None

    ends_s = time.monotonic() + 5
    while not asyncio.run(is_seen()):
        assert time.monotonic() < ends_s, "what was the database is still read"
        time.sleep(0.05)
    first.close()
