"""What was recorded is counted once, for its key, its account and its tenant, on both databases."""

import asyncio
from pathlib import Path

import pytest
from msgspec import structs
from sqlalchemy import text

from tests.contract.core.ledger.entries import entry
from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.db.spool import Spool
from trainyard.core.db.writer import GroupWriter, Write
from trainyard.core.keys import APIKeyManager
from trainyard.core.ledger.service import Ledger
from trainyard.core.ledger.store import rows
from trainyard.core.limits.types import Amount

_MONTH = (1_700_000_000.0, 1_702_000_000.0)


async def test_a_subject_has_spent_what_was_recorded_before(ledger: Ledger) -> None:
    assert await ledger.spent("tenant:lab", *_MONTH) == Amount(0, 0)
    await asyncio.gather(*(ledger.record(entry(f"{number}")) for number in range(100)))
    assert await ledger.spent("tenant:lab", *_MONTH) == Amount(3000, 700)
    assert await ledger.spent("key:key_a", *_MONTH) == Amount(3000, 700)


async def test_a_second_entry_of_the_same_id_adds_nothing(ledger: Ledger) -> None:
    await ledger.record(entry("1"))
    await ledger.record(entry("1", charged_tokens=999))
    assert await ledger.spent("tenant:lab", *_MONTH) == Amount(30, 7)


@pytest.mark.parametrize(
    ("at", "counts"), [(1_699_999_999.999, False), (1_700_000_000.0, True), (1_701_999_999.9, True), (1_702e6, False)]
)
async def test_a_period_has_its_begin_and_not_its_end(ledger: Ledger, at: float, counts: bool) -> None:
    await ledger.record(entry("1", at=at))
    assert await ledger.spent("tenant:lab", *_MONTH) == (Amount(30, 7) if counts else Amount(0, 0))


async def test_others_do_not_pay(ledger: Ledger) -> None:
    await ledger.record(entry("1", tenant="else", key_id="key_b"))
    assert await ledger.spent("tenant:lab", *_MONTH) == Amount(0, 0)
    assert await ledger.spent("key:key_a", *_MONTH) == Amount(0, 0)


async def test_a_key_pays_with_those_that_it_replaced(ledger: Ledger, any_database: Database, clock: FakeClock) -> None:
    keys = APIKeyManager(any_database, b"p" * 32, clock)
    first = keys.create("ada", tenant="lab").record.id
    second = keys.rotate_key(first).record.id
    third = keys.rotate_key(second, overlap_s=5).record.id
    for number, key_id in enumerate((first, second, third, "key_other")):
        await ledger.record(entry(f"{number}", key_id=key_id, charged_tokens=10**number))
    assert await ledger.spent(f"key:{first}", *_MONTH) == Amount(111, 21)


async def test_numbers_over_four_bytes_are_exact(ledger: Ledger) -> None:
    for number in range(3):
        await ledger.record(entry(f"{number}", charged_tokens=2**53 - 1, cost_micros=2**60))
    assert await ledger.spent("tenant:lab", *_MONTH) == Amount(3 * (2**53 - 1), 3 * 2**60)


@pytest.mark.parametrize("subject", ["user:ada", "lab", "tenant:", ""])
async def test_what_is_no_subject_is_refused(ledger: Ledger, subject: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        await ledger.spent(subject, *_MONTH)


async def test_an_entry_that_cannot_be_written_with_its_writes_is_not_written_at_all(ledger: Ledger) -> None:
    fact = Write("INSERT INTO core_facts (name, value) VALUES (:name, :value)", {"name": "n", "value": "v"})
    await ledger.record(entry("1"), fact)
    with pytest.raises(errors.Conflict):
        await ledger.record(entry("2"), fact)
    assert await ledger.spent("tenant:lab", *_MONTH) == Amount(30, 7)


async def test_what_is_in_the_spool_counts_for_the_account_of_its_key_and_once_when_it_is_replayed(
    any_database: Database, clock: FakeClock, tmp_path: Path
) -> None:
    keys = APIKeyManager(any_database, b"p" * 32, clock)
    first = keys.create("ada", tenant="lab").record.id
    second = keys.rotate_key(first).record.id
    away = GroupWriter(f"sqlite:///{tmp_path / 'gone.db'}", spool=Spool(tmp_path))
    ledger = Ledger(away, any_database)
    entries = [entry("1", key_id=first), entry("2", key_id=second), entry("3", key_id="key_other", at=1.0)]
    for one in entries:
        await ledger.record(one)
    assert ledger.spooled == 3
    assert await ledger.spent(f"key:{first}", *_MONTH) == Amount(60, 14)
    assert await ledger.spent("tenant:lab", *_MONTH) == Amount(60, 14)
    assert await ledger.spent("tenant:else", *_MONTH) == Amount(0, 0)
    with any_database.begin() as connection:  # one of them is written by now, and nobody has said so yet
        connection.execute(text(rows.INSERT), structs.asdict(entries[0]))
    assert await ledger.spent(f"key:{first}", *_MONTH) == Amount(60, 14)
    await away.aclose()
