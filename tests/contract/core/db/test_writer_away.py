"""While the database is away, lists that may wait do so in the spool; what then happens to each of them."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import text

from trainyard.core import errors
from trainyard.core.db import Database
from trainyard.core.db.spool import Spool
from trainyard.core.db.writer import GroupWriter, Write

_INSERT = "INSERT INTO core_facts (name, value) VALUES (:name, :value)"


def _fact(name: str, value: object = "v") -> Write:
    return Write(_INSERT, {"name": name, "value": value})


class Away:
    """A writer whose database is not there yet."""

    def __init__(self, directory: Path, migrated: Path) -> None:
        self.directory, self.migrated = directory, migrated
        self.path = directory / "trainyard.db"
        self.writer = GroupWriter(f"sqlite:///{self.path}", spool=Spool(directory))
        self.spooled: list[str] = []
        self.replayed = asyncio.Event()
        self.writer.observe(self._keep, self.replayed.set)

    def _keep(self, writes: object) -> None:
        assert isinstance(writes, list)
        self.spooled += [write.parameters["name"] for write in writes]

    def appears(self) -> None:
        shutil.copy(self.migrated, self.directory / "new")
        (self.directory / "new").rename(self.path)

    async def comes_back(self) -> set[str]:
        """Make the database; returns the names of the facts in it when the spool is empty."""
        self.appears()
        async with asyncio.timeout(20):
            await self.replayed.wait()
        database = Database(f"sqlite:///{self.path}")
        with database.read() as connection:
            names = set(connection.execute(text("SELECT name FROM core_facts")).scalars())
        database.close()
        return names

    def files(self) -> set[str]:
        return {path.name.partition("-")[0] for path in self.directory.glob("ledger*")}


@pytest.fixture
async def away(tmp_path: Path, migrated_file: Path) -> AsyncIterator[Away]:
    made = Away(tmp_path, migrated_file)
    yield made
    await made.writer.aclose()


async def test_lists_that_may_wait_are_as_good_as_written_and_others_are_refused(away: Away) -> None:
    await away.writer.start()
    assert await away.writer.submit([_fact("a"), _fact("b")], may_spool=True) is False
    with pytest.raises(errors.Unavailable) as caught:
        await away.writer.submit([_fact("c")])
    assert caught.value.code == "ledger_unavailable"
    assert away.spooled == ["a", "b"]
    assert await away.comes_back() == {"a", "b"}
    assert await away.writer.submit([_fact("d")], may_spool=True) is True


async def test_only_what_cannot_be_kept_is_refused(away: Away) -> None:
    lists = [[_fact("a")], [_fact("b", object())], [_fact("c")]]
    outcomes = await asyncio.gather(
        *(away.writer.submit(writes, may_spool=True) for writes in lists), return_exceptions=True
    )
    assert (outcomes[0], outcomes[2]) == (False, False)
    assert isinstance(outcomes[1], errors.InvalidRequest)
    assert await away.comes_back() == {"a", "c"}


async def test_what_the_database_does_not_take_later_is_put_aside_and_stops_nothing(away: Away) -> None:
    lists = [[_fact("a")], [_fact("b"), _fact("a")], [_fact("c")]]
    assert await asyncio.gather(*(away.writer.submit(writes, may_spool=True) for writes in lists)) == [False] * 3
    assert await away.comes_back() == {"a", "c"}
    assert away.files() == {"ledger", "ledger.refused"}


async def test_a_replay_that_cannot_put_aside_is_tried_again_at_the_next_start(away: Away) -> None:
    (away.directory / "ledger.refused").mkdir()
    lists = [[_fact("a")], [_fact("a")]]
    await asyncio.gather(*(away.writer.submit(writes, may_spool=True) for writes in lists))
    away.appears()
    async with asyncio.timeout(20):
        while await away.writer.submit([_fact("later")], may_spool=True) is False:  # noqa: ASYNC110 - from outside
            await asyncio.sleep(0.05)
    await away.writer.aclose()
    (away.directory / "ledger.refused").rmdir()
    again = GroupWriter(f"sqlite:///{away.path}", spool=Spool(away.directory))
    await again.start()
    await again.aclose()
    assert away.files() == {"ledger.refused"}


async def test_a_file_of_the_dead_that_cannot_be_opened_stops_nothing(away: Away) -> None:
    (away.directory / "ledger-1.spool").mkdir()
    away.appears()
    await away.writer.write([_fact("a")])


async def test_a_spool_that_cannot_be_written_refuses(tmp_path: Path) -> None:
    writer = GroupWriter(f"sqlite:///{tmp_path / 'gone.db'}", spool=Spool(tmp_path / "gone"))
    with pytest.raises(errors.Unavailable) as caught:
        await writer.submit([_fact("a")], may_spool=True)
    assert caught.value.code == "ledger_unavailable"
    await writer.aclose()


async def test_a_postgres_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    writer = GroupWriter("postgresql://nobody@127.0.0.1:9/nothing", spool=Spool(tmp_path))
    await writer.start()
    assert await writer.submit([_fact("a")], may_spool=True) is False
    with pytest.raises(errors.Unavailable):
        await writer.write([_fact("b")])
    await writer.aclose()
    assert len(list(tmp_path.glob("ledger-*.spool"))) == 1  # noqa: ASYNC240 - one look
