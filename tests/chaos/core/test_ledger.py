"""What was acknowledged is in the ledger once, whatever dies."""

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.contract.core.ledger.entries import entry
from tests.services.postgres import OwnPostgres
from tests.services.require import missing
from trainyard.core import errors
from trainyard.core.db import Database
from trainyard.core.db.spool import Spool
from trainyard.core.db.writer import GroupWriter
from trainyard.core.ledger.service import Ledger

_ROOT = Path(__file__).parents[3]


def _entry_ids(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(text("SELECT entry_id FROM core_usage ORDER BY entry_id")).scalars())


def _killed_after(acknowledged: int, url: str, directory: Path) -> set[str]:
    """Let a process record, kill it without a warning, and return what it had acknowledged."""
    command = [sys.executable, "-m", "tests.chaos.core.recording", url, str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=_ROOT) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(acknowledged)]
        process.kill()
        lines += process.stdout.readlines()
    return {line.decode().strip() for line in lines if line.endswith(b"\n")}


async def _replayed(url: str, directory: Path) -> None:
    writer = GroupWriter(url, spool=Spool(directory))
    await writer.start()
    await writer.aclose()


def _spools(directory: Path) -> list[Path]:
    return list(directory.glob("ledger-*"))


async def _caught_up(ledger: Ledger) -> None:
    async with asyncio.timeout(20):
        while ledger.spooled:  # noqa: ASYNC110 - seen from outside, as an operator does
            await asyncio.sleep(0.02)


@contextmanager
def _locked(database: Database) -> Iterator[None]:
    """Hold the write lock, as a backup or a migration of another process does."""
    holder = sqlite3.connect(str(database.engine.url.database), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.close()


@pytest.mark.parametrize("acknowledged", [1, 500, 4000])
async def test_nothing_acknowledged_is_lost_when_the_process_is_killed(
    any_database: Database, database_url: str, tmp_path: Path, acknowledged: int
) -> None:
    known = await asyncio.to_thread(_killed_after, acknowledged, database_url, tmp_path)
    written = _entry_ids(any_database)
    assert len(known) >= acknowledged
    assert known <= set(written)
    assert len(written) == len(set(written)) <= len(known) + 16  # each caller was at most one ahead


async def test_nothing_acknowledged_is_lost_when_it_was_only_in_the_spool(database: Database, tmp_path: Path) -> None:
    url = f"sqlite:///{database.engine.url.database}"
    with _locked(database):
        known = await asyncio.to_thread(_killed_after, 2000, url, tmp_path)
        assert _entry_ids(database) == []
    assert len(_spools(tmp_path)) == 1
    await _replayed(url, tmp_path)
    written = _entry_ids(database)
    assert known <= set(written)
    assert len(written) == len(set(written)) <= len(known) + 16
    assert _spools(tmp_path) == []


async def test_a_spool_that_was_written_twice_counts_once(database: Database, tmp_path: Path) -> None:
    url = f"sqlite:///{database.engine.url.database}"
    with _locked(database):
        known = await asyncio.to_thread(_killed_after, 100, url, tmp_path)
    (left,) = _spools(tmp_path)
    shutil.copy(left, tmp_path / "ledger-copy.spool")  # as if the process had died between replaying and emptying
    await _replayed(url, tmp_path)
    written = _entry_ids(database)
    assert known <= set(written)
    assert len(written) == len(set(written)) <= len(known) + 16


@pytest.mark.parametrize("torn_bytes", [1, 7, 8, 9, 100])
async def test_a_record_that_was_not_finished_is_ignored(database: Database, tmp_path: Path, torn_bytes: int) -> None:
    url = f"sqlite:///{database.engine.url.database}"
    with _locked(database):
        writer = GroupWriter(url, spool=Spool(tmp_path))
        ledger = Ledger(writer, database)
        for number in range(3):
            await ledger.record(entry(f"{number}"))
        await writer.aclose()
    (left,) = _spools(tmp_path)
    whole = left.read_bytes()
    left.write_bytes(whole + whole[:torn_bytes])
    await _replayed(url, tmp_path)
    assert len(_entry_ids(database)) == 3
    assert _spools(tmp_path) == []


async def test_a_locked_database_costs_nobody_his_answer_and_is_caught_up_with(
    database: Database, tmp_path: Path
) -> None:
    writer = GroupWriter(f"sqlite:///{database.engine.url.database}", spool=Spool(tmp_path))
    ledger = Ledger(writer, database)
    await ledger.record(entry("before"))
    with _locked(database):
        await asyncio.gather(*(ledger.record(entry(f"{number}")) for number in range(50)))
        assert ledger.spooled == 50
        assert (await ledger.spent("tenant:lab", 0.0, 4e9)).tokens == 51 * 30
        assert len(_entry_ids(database)) == 1
    while ledger.spooled:
        assert (await ledger.spent("tenant:lab", 0.0, 4e9)).tokens == 51 * 30
        await asyncio.sleep(0.02)
    assert len(_entry_ids(database)) == 51
    assert (await ledger.spent("tenant:lab", 0.0, 4e9)).tokens == 51 * 30
    await writer.aclose()


async def test_without_a_spool_a_locked_database_is_told_and_nothing_is_written(database: Database) -> None:
    writer = GroupWriter(f"sqlite:///{database.engine.url.database}")
    ledger = Ledger(writer, database)
    with _locked(database):
        with pytest.raises(errors.Unavailable) as caught:
            await ledger.record(entry("1"))
        assert caught.value.code == "ledger_unavailable"
    while True:  # it finds the way back by itself
        try:
            await ledger.record(entry("2"))
        except errors.Unavailable:
            await asyncio.sleep(0.05)
        else:
            break
    assert _entry_ids(database) == [entry("2").entry_id]
    await writer.aclose()


@pytest.mark.parametrize("crashes", [False, True])
async def test_postgres_stops_and_starts_while_entries_are_recorded(
    own_postgres: OwnPostgres, tmp_path: Path, crashes: bool
) -> None:
    url = own_postgres.create_database()
    database = Database(url)
    database.migrate()
    writer = GroupWriter(url, spool=Spool(tmp_path))
    ledger = Ledger(writer, database)
    known: list[str] = []
    is_over = False

    async def caller(name: int) -> None:
        number = 0
        while not is_over:
            one = entry(f"{name}-{number}")
            await ledger.record(one)
            known.append(one.entry_id)
            number += 1
            await asyncio.sleep(0.001)

    callers = [asyncio.create_task(caller(name)) for name in range(8)]
    for _ in range(2):
        await asyncio.sleep(0.3)
        await asyncio.to_thread(own_postgres.stop, signal.SIGQUIT if crashes else signal.SIGINT)
        acknowledged = len(known)
        await asyncio.sleep(0.3)
        assert len(known) > acknowledged  # nobody waits for the database
        assert ledger.spooled > 0
        await asyncio.to_thread(own_postgres.start)
    is_over = True
    await asyncio.gather(*callers)
    await _caught_up(ledger)
    assert _entry_ids(database) == sorted(known)
    assert (await ledger.spent("tenant:lab", 0.0, 4e9)).tokens == 30 * len(known)
    await writer.aclose()
    database.close()


async def test_postgres_that_does_not_answer_any_more_is_left_and_found_again(
    own_postgres: OwnPostgres, tmp_path: Path
) -> None:
    url = own_postgres.create_database()
    database = Database(url)
    database.migrate()
    writer = GroupWriter(url, spool=Spool(tmp_path))
    ledger = Ledger(writer, database)
    await ledger.record(entry("before"))
    with own_postgres.frozen():
        async with asyncio.timeout(15):
            await ledger.record(entry("during"))
        assert ledger.spooled == 1
    await _caught_up(ledger)
    assert _entry_ids(database) == sorted(entry(name).entry_id for name in ("before", "during"))
    await writer.aclose()
    database.close()


def test_a_full_disk_refuses_and_charges_nothing_and_recovers(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        missing("a mount namespace of its own (root and unshare)", "apt-get install util-linux")
    script = (
        f'mount -t tmpfs -o size=1m tmpfs "{disk}" && exec "{sys.executable}" -m tests.chaos.core.full_disk "{disk}"'
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, str(disk)], check=True, capture_output=True, text=True, cwd=_ROOT
    )
    assert done.stdout.splitlines()[-1] == "refused: ledger_unavailable; lost: 0; twice: 0; after: recorded"
