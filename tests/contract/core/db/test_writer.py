"""Group commit on both databases: all or nothing per list, nobody fails for another, nothing acknowledged is lost."""

import asyncio

import pytest
from sqlalchemy import text

from trainyard.core import errors
from trainyard.core.db import Database
from trainyard.core.db.writer import GroupWriter, Write

_INSERT = "INSERT INTO core_facts (name, value) VALUES (:name, :value)"


def _fact(name: str, value: str = "v") -> Write:
    return Write(_INSERT, {"name": name, "value": value})


def _facts(database: Database) -> dict[str, str]:
    with database.read() as connection:
        return {row.name: row.value for row in connection.execute(text("SELECT name, value FROM core_facts"))}


async def test_what_was_awaited_is_in_the_database(writer: GroupWriter, any_database: Database) -> None:
    await writer.write([_fact("one")])
    assert _facts(any_database) == {"one": "v"}


async def test_many_callers_all_get_their_rows_and_nobody_waits_afterwards(
    writer: GroupWriter, any_database: Database
) -> None:
    await asyncio.gather(*(writer.write([_fact(f"{caller}")]) for caller in range(300)))
    assert len(_facts(any_database)) == 300
    assert writer.waiting == 0


async def test_rows_that_are_there_already_harm_no_others(writer: GroupWriter, any_database: Database) -> None:
    sql = f"{_INSERT} ON CONFLICT (name) DO NOTHING"
    names = [f"{number % 70}" for number in range(140)]  # each twice, some of them in one statement
    await asyncio.gather(*(writer.write([Write(sql, {"name": name, "value": name})]) for name in sorted(names)))
    assert _facts(any_database) == {name: name for name in names}


async def test_a_list_is_written_whole_or_not_at_all(writer: GroupWriter, any_database: Database) -> None:
    await writer.write([_fact("taken")])
    with pytest.raises(errors.Conflict) as caught:
        await writer.write([_fact("new"), _fact("taken")])
    assert caught.value.code == "write_conflict"
    assert "taken" not in caught.value.message
    assert _facts(any_database) == {"taken": "v"}


async def test_only_the_guilty_list_of_a_batch_fails(writer: GroupWriter, any_database: Database) -> None:
    await writer.write([_fact("taken")])
    lists = [[_fact("a")], [_fact("b"), _fact("taken")], [_fact("c")], [_fact("d", "x\x00y" * 200)], [_fact("e")]]
    outcomes = await asyncio.gather(*(writer.submit(writes) for writes in lists), return_exceptions=True)
    assert [outcomes[index] for index in (0, 2, 4)] == [True, True, True]
    assert isinstance(outcomes[1], errors.Conflict)
    if any_database.kind == "postgresql":  # SQLite holds text of any length with any character
        assert isinstance(outcomes[3], errors.InvalidRequest)
        assert outcomes[3].code == "unstorable_value"
    assert {"a", "c", "e", "taken"} <= set(_facts(any_database))
    assert "b" not in _facts(any_database)


@pytest.mark.parametrize(
    ("write", "kind", "code"),
    [
        (Write(_INSERT, {"name": "x"}), errors.InvalidRequest, "unstorable_value"),  # a parameter is missing
        (Write(_INSERT, {"name": "x", "value": "\ud800"}), errors.InvalidRequest, "unstorable_value"),
        (Write("INSERT INTO nowhere (a) VALUES (:a)", {"a": 1}), errors.TrainyardError, "internal_error"),
        (Write("INSRT", {}), errors.TrainyardError, "internal_error"),
    ],
)
async def test_a_write_that_can_never_work_is_told_as_such(
    writer: GroupWriter, write: Write, kind: type[errors.TrainyardError], code: str
) -> None:
    with pytest.raises(kind) as caught:
        await writer.write([write])
    assert caught.value.code == code
    await writer.write([_fact("after")])


async def test_statements_of_a_list_run_in_their_order(writer: GroupWriter, any_database: Database) -> None:
    update = Write("UPDATE core_facts SET value = value || :more WHERE name = :name", {"name": "n", "more": "%"})
    await writer.write([_fact("n", "a:b"), update, update])
    assert _facts(any_database) == {"n": "a:b%%"}


async def test_casts_and_literals_with_colons_are_no_parameters(writer: GroupWriter, any_database: Database) -> None:
    sql = "INSERT INTO core_facts (name, value) VALUES (:name, ':value' || '%s 100%' || \"lower\"('::X'))"
    await writer.write([Write(sql, {"name": "n"})])
    assert _facts(any_database) == {"n": ":value%s 100%::x"}


async def test_a_caller_that_leaves_stops_nothing(writer: GroupWriter, any_database: Database) -> None:
    task = asyncio.create_task(writer.write([_fact("left")]))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await writer.write([_fact("later")])
    assert set(_facts(any_database)) == {"left", "later"}


async def test_closing_writes_what_waits_and_refuses_what_comes_later(
    writer: GroupWriter, any_database: Database
) -> None:
    last = writer.submit([_fact("last")])
    await writer.aclose()
    assert await last is True
    assert _facts(any_database) == {"last": "v"}
    with pytest.raises(errors.Unavailable):
        await writer.write([_fact("late")])
    await writer.aclose()


class _Faulty(dict[str, object]):
    def __getitem__(self, name: str) -> object:
        raise RuntimeError(name)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_fault_of_the_thread_lets_nobody_wait_for_ever_and_the_next_write_begins_another(
    writer: GroupWriter, any_database: Database
) -> None:
    with pytest.raises(errors.Unavailable):
        await writer.write([Write(_INSERT, _Faulty())])
    later = [asyncio.create_task(writer.write([_fact(name)])) for name in "ab"]
    await asyncio.gather(*later, return_exceptions=True)
    await writer.write([_fact("after")])
    assert "after" in _facts(any_database)


async def test_too_many_that_wait_are_refused_at_once(any_database: Database, database_url: str) -> None:
    writer = GroupWriter(database_url, max_waiting=2)
    first = [writer.submit([_fact(name)]) for name in "ab"]
    with pytest.raises(errors.Unavailable) as caught:
        writer.submit([_fact("c")])
    assert (caught.value.code, caught.value.retry_after_s) == ("ledger_unavailable", 1)
    assert await asyncio.gather(*first) == [True, True]
    await writer.write([_fact("c")])
    await writer.aclose()
