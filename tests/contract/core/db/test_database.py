"""SQLite and Postgres behave alike behind Database."""

import threading
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError

from trainyard.core import errors
from trainyard.core.db import Database, epochs
from trainyard.core.db.metadata import facts


def _write(database: Database, name: str, value: str = "v") -> None:
    with database.begin() as connection:
        connection.execute(insert(facts).values(name=name, value=value))


def _write_and_fail(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(insert(facts).values(name="undone", value="v"))
        epochs.raise_epoch(connection, "x")
        raise RuntimeError


def _names(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(select(facts.c.name).order_by(facts.c.name)).scalars())


def test_a_transaction_is_kept_when_its_block_ends_and_undone_when_it_raises(any_database: Database) -> None:
    _write(any_database, "kept")
    with pytest.raises(RuntimeError):
        _write_and_fail(any_database)
    assert _names(any_database) == ["kept"]


def test_broken_constraints_reach_the_store_as_they_are(any_database: Database) -> None:
    _write(any_database, "once")
    with pytest.raises(IntegrityError):
        _write(any_database, "once")


async def test_call_runs_in_a_database_thread_and_hands_results_and_errors_back(any_database: Database) -> None:
    assert (await any_database.call(lambda: threading.current_thread().name)).startswith("database")
    with pytest.raises(ZeroDivisionError):
        await any_database.call(lambda: 1 // 0)


async def test_ping_answers(any_database: Database) -> None:
    await any_database.ping()


def test_writers_of_one_counter_never_lose_an_update(any_database: Database) -> None:
    def count() -> None:
        for _ in range(25):
            with any_database.begin() as connection:
                epochs.raise_epoch(connection, "counter")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with any_database.read() as connection:
        assert epochs.read_epoch(connection, "counter") == 100


def test_an_epoch_begins_at_zero_and_is_undone_with_its_transaction(any_database: Database) -> None:
    with pytest.raises(RuntimeError):
        _write_and_fail(any_database)
    with any_database.read() as connection:
        assert epochs.read_epoch(connection, "x") == 0


def test_readers_do_not_wait_for_a_writer(any_database: Database) -> None:
    with any_database.begin() as writer:
        writer.execute(insert(facts).values(name="new", value="v"))
        assert _names(any_database) == []
    assert _names(any_database) == ["new"]


def test_text_that_postgres_cannot_hold_is_a_bad_request(postgres_url: str) -> None:
    database = Database(postgres_url)
    database.migrate()
    with pytest.raises(errors.InvalidRequest, match="NUL") as caught:
        _write(database, "a\x00b")
    assert caught.value.code == "unstorable_value"
    database.close()


def test_sqlite_runs_with_the_pragmas_that_the_design_names(tmp_path: Path) -> None:
    for sync, number in (("normal", 1), ("full", 2)):
        database = Database(f"sqlite:///{tmp_path / sync}.db", sync=sync)  # type: ignore[arg-type]
        with database.read() as connection:
            found = [connection.execute(text(f"PRAGMA {name}")).scalar() for name in _PRAGMAS]
        assert found == ["wal", number, 1, 10_000]
        database.close()


_PRAGMAS = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")


def test_a_database_that_is_away_is_unavailable_and_only_the_log_says_where_it_was(
    caplog: pytest.LogCaptureFixture,
) -> None:
    database = Database("postgresql://user:hunter2@127.0.0.1:9/nothing")
    with pytest.raises(errors.Unavailable) as caught:
        _names(database)
    assert caught.value.code == "database_unavailable"
    assert caught.value.retry_after_s == 1
    assert caught.value.message == "The postgresql database does not answer; the log says why"
    assert "127.0.0.1" in caplog.text
    assert "hunter2" not in caplog.text
    with pytest.raises(errors.StartupError, match="cannot be brought up to date"):
        database.migrate()
    database.close()
