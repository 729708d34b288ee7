"""A Postgres that hangs costs nobody more than his patience."""

import threading
import time

import pytest
from sqlalchemy import text

from tests.services.postgres import OwnPostgres
from trainyard.core import errors
from trainyard.core.db import Database


def test_a_hanging_postgres_is_left_in_time_and_found_again(own_postgres: OwnPostgres) -> None:
    database = Database(own_postgres.create_database())
    is_open, may_go_on = threading.Event(), threading.Event()
    told: list[str] = []

    def in_the_middle() -> None:
        try:
            with database.read(patience_s=1) as connection:
                connection.execute(text("SELECT 1"))
                is_open.set()
                may_go_on.wait(10)
                connection.execute(text("SELECT 2"))
        except errors.Unavailable as error:
            told.append(error.code)

    with database.read() as connection:
        connection.execute(text("SELECT 1"))
    middle = threading.Thread(target=in_the_middle)
    middle.start()
    assert is_open.wait(10)
    with own_postgres.frozen():
        may_go_on.set()
        began_s = time.monotonic()
        middle.join(5)
        assert told == ["database_unavailable"]
        with pytest.raises(errors.Unavailable), database.read():
            pass
        assert time.monotonic() - began_s < 10  # one more look, or a connection that cannot be made
        began_s = time.monotonic()
        for _ in range(50):  # those behind are spared the same
            with pytest.raises(errors.Unavailable, match="does not answer"), database.read():
                pass
        assert time.monotonic() - began_s < 1
    ends_s = time.monotonic() + 10
    while True:
        try:
            with database.begin() as connection:
                assert connection.execute(text("SELECT 3")).scalar() == 3
            break
        except errors.Unavailable:
            assert time.monotonic() < ends_s
            time.sleep(0.1)
    database.close()


def test_a_transaction_that_lasts_too_long_is_rolled_back(own_postgres: OwnPostgres) -> None:
    database = Database(own_postgres.create_database())
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE kept (number integer)"))
    with pytest.raises(errors.Unavailable), database.begin(patience_s=0.1) as connection:
        connection.execute(text("WITH one AS (INSERT INTO kept VALUES (1)) SELECT pg_sleep(5)"))
    with database.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM kept")).scalar() == 0
    database.close()
