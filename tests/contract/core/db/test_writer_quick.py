"""Commits in the event loop: nobody waits for a lock there, nothing is lost or done twice, the journal stays short."""

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from trainyard.core import errors
from trainyard.core.db import committing, journal
from trainyard.core.db.spool import Spool
from trainyard.core.db.writer import GroupWriter, Outcome, Write

_INSERT = "INSERT INTO core_facts (name, value) VALUES (:name, :value)"


def _fact(name: str, value: str = "v") -> Write:
    return Write(_INSERT, {"name": name, "value": value})


@pytest.fixture
def path(tmp_path: Path, migrated_file: Path) -> Path:
    return Path(shutil.copy(migrated_file, tmp_path / "trainyard.db"))


@pytest.fixture
async def quick(path: Path) -> AsyncIterator[GroupWriter]:
    made = GroupWriter(f"sqlite:///{path}", spool=Spool(path.parent))
    await made.start()
    yield made
    await made.aclose()


def _names(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM core_facts ORDER BY name")]


def _connections(path: Path) -> int:
    """Count the descriptors of the file in this process."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            links.append(str(descriptor.readlink()))
        except FileNotFoundError:
            continue  # that of the listing
    return links.count(str(path))


@pytest.mark.parametrize(
    ("url", "sync", "is_quick"),
    [
        ("sqlite:///{path}", "normal", True),
        ("sqlite:///{path}", "full", False),
        ("postgresql://nobody@127.0.0.1:9/nothing", "normal", False),
    ],
)
def test_only_commits_that_wait_for_no_disk_and_no_wire_are_quick(
    path: Path, url: str, sync: str, is_quick: bool
) -> None:
    made = committing.connect_quick(url.format(path=path), sync)
    assert (made is not None) == is_quick
    if made is not None:
        made.close()


async def test_a_turn_of_the_loop_is_enough(quick: GroupWriter, path: Path) -> None:
    writing = quick.submit([_fact("a")])
    assert not writing.done()
    await asyncio.sleep(0)
    assert writing.done()
    assert writing.result() is True
    assert _names(path) == ["a"]


async def test_a_lock_of_another_process_holds_up_the_thread_alone(quick: GroupWriter, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        began_s = asyncio.get_running_loop().time()
        writing = [quick.submit([_fact("a")])]
        await asyncio.sleep(0)
        writing.append(quick.submit([_fact("b")]))  # behind it in the thread
        await asyncio.sleep(0)
        assert asyncio.get_running_loop().time() - began_s < 0.5
        assert not any(future.done() for future in writing)
        other.execute("ROLLBACK")
    assert await asyncio.gather(*writing) == [True, True]
    assert _names(path) == ["a", "b"]


async def test_a_lock_that_stays_sends_to_the_spool_what_may_go_there(quick: GroupWriter, path: Path) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        outcomes = await asyncio.gather(
            quick.submit([_fact("a")], may_spool=True), quick.submit([_fact("b")]), return_exceptions=True
        )
    assert outcomes[0] is False
    assert isinstance(outcomes[1], errors.Unavailable)
    replayed = asyncio.Event()
    quick.observe(lambda _: None, replayed.set)
    await asyncio.wait_for(replayed.wait(), 20)
    assert _names(path) == ["a"]


async def test_many_lists_at_once_are_the_threads(quick: GroupWriter, path: Path) -> None:
    writing = [quick.submit([_fact(f"{number:03}")]) for number in range(257)]
    await asyncio.sleep(0)
    assert not any(future.done() for future in writing)
    assert await asyncio.gather(*writing) == [True] * 257
    assert len(_names(path)) == 257


async def test_one_who_fails_at_being_told_keeps_it_from_nobody(quick: GroupWriter, path: Path) -> None:
    told: list[Outcome] = []
    reported: list[dict[str, Any]] = []

    def fail(_: Outcome) -> None:
        raise RuntimeError("told")

    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    for name, wake in {"a": told.append, "b": fail, "c": told.append, "d": fail}.items():
        quick.submit_then([_fact(name)], wake)
    await quick.write([_fact("e")])
    await asyncio.sleep(0)
    assert told == [True, True]
    assert len(reported) == 2
    assert quick.waiting == 0
    assert _names(path) == ["a", "b", "c", "d", "e"]


async def test_one_who_fails_at_being_told_does_not_stop_the_closing(quick: GroupWriter, path: Path) -> None:
    def fail(_: Outcome) -> None:
        raise RuntimeError("told")

    quick.submit_then([_fact("a")], fail)
    last = quick.submit([_fact("b")])
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    await quick.aclose()
    assert await last is True
    assert _connections(path) == 0
    assert _names(path) == ["a", "b"]


async def test_the_journal_stays_short_and_closing_leaves_nothing_open(quick: GroupWriter, path: Path) -> None:
    journal = path.with_name("trainyard.db-wal")
    longest = 0
    for number in range(2300):  # 55 MB of pages
        await quick.write([_fact(str(number), "x" * 16_000)])
        longest = max(longest, journal.stat().st_size)
    assert longest < 33 << 20  # 1000 lists of six pages each, on top of 8 MB
    assert journal.stat().st_size < longest
    assert _connections(path) == 2
    await quick.aclose()
    assert _connections(path) == 0
    assert not journal.exists()


def test_a_full_journal_is_begun_anew_in_the_file_that_it_has(path: Path) -> None:
    committer = committing.connect(f"sqlite:///{path}", "normal")
    wal, names = path.with_name("trainyard.db-wal"), [str(number) for number in range(420)]
    for name in names:  # 24 KB of pages each, a little more than 8 MB
        committer.commit([[_fact(name, "x" * 16_000)]])
    before_bytes = wal.stat().st_size
    assert journal.LONG_BYTES < before_bytes < 2 * journal.LONG_BYTES
    assert not journal.is_full(wal)
    committer.commit([[_fact("last")]])
    assert wal.stat().st_size == before_bytes
    committer.close()
    assert _names(path) == sorted([*names, "last"])


async def test_a_database_that_comes_later_is_quick_too(tmp_path: Path, migrated_file: Path) -> None:
    path = tmp_path / "later.db"
    writer = GroupWriter(f"sqlite:///{path}", spool=Spool(tmp_path))
    await writer.start()
    assert await writer.submit([_fact("a")], may_spool=True) is False
    shutil.copy(migrated_file, tmp_path / "new")
    (tmp_path / "new").rename(path)
    async with asyncio.timeout(20):
        while await writer.submit([], may_spool=True) is False:  # noqa: ASYNC110 - from outside
            await asyncio.sleep(0.05)
    assert _connections(path) == 2
    await writer.aclose()


@pytest.mark.parametrize("is_replaced", [False, True])
async def test_a_file_that_is_taken_away_is_noticed_and_written_when_there_is_one_again(
    quick: GroupWriter, path: Path, migrated_file: Path, is_replaced: bool
) -> None:
    await quick.write([_fact("before")])
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").rename(f"{path}.gone{end}")  # noqa: ASYNC240
    shutil.copy(migrated_file, path.parent / "new")
    if is_replaced:
        (path.parent / "new").rename(path)
    await asyncio.sleep(1.1)  # the thread's turn
    assert await quick.submit([_fact("after")], may_spool=True) is False
    replayed = asyncio.Event()
    quick.observe(lambda _: None, replayed.set)
    if not is_replaced:
        (path.parent / "new").rename(path)
    await asyncio.wait_for(replayed.wait(), 20)
    await quick.write([_fact("later")])
    assert _names(path) == ["after", "later"]
