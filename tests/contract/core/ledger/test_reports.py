"""Reports add up what was recorded, by every dimension, page by page, on both databases."""

import zoneinfo
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest

from tests.contract.core.ledger.entries import entry
from trainyard.core import errors
from trainyard.core.db import Database
from trainyard.core.ledger.report_types import DIMENSIONS, Dimension, Filter, Latency, Sums
from trainyard.core.ledger.reports import Reports
from trainyard.core.ledger.service import Ledger
from trainyard.core.ledger.store import work
from trainyard.core.ledger.types import Work

_UTC = zoneinfo.ZoneInfo("UTC")
_BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
_ALL = Filter(since=0.0, until=4e9)


@pytest.fixture
def reports(any_database: Database) -> Reports:
    return Reports(any_database)


async def _record(ledger: Ledger) -> None:
    """Three tenants' worth of requests; the numbers below are worked out from these lines."""
    lines: list[dict[str, object]] = [
        {"at": 1_700_000_000.0, "user": "ada", "model": "pocket", "seconds": 1.0},
        {"at": 1_700_000_001.0, "user": "ada", "model": "big", "seconds": 3.0, "cost_micros": 50},
        {"at": 1_700_000_002.0, "user": "bob", "key_id": "key_b", "model": "pocket", "seconds": 2.0},
        {"at": 1_700_000_003.0, "cached": True, "charged_tokens": 0, "cost_micros": 0, "seconds": 0.25},
        {"at": 1_700_000_004.0, "tenant": "else", "key_id": "key_e", "outcome": "cancelled", "route": "/v1/stream"},
    ]
    for number, facts in enumerate(lines):
        await ledger.record(entry(f"{number}", **facts))


async def test_cpu_seconds_and_bytes_are_summed_over_the_entries_that_have_some(
    ledger: Ledger, reports: Reports
) -> None:
    ran = [
        (entry("a", model="sandbox/py"), Work(cpu_s=0.5, bytes_in=10, bytes_out=3_000_000_000)),
        (entry("b", model="sandbox/py"), Work(cpu_s=0.25, bytes_in=1, bytes_out=2)),
    ]
    for one, done in ran:
        for _twice in range(2):
            await ledger.record(one, work.insert(one.entry_id, done))
    await ledger.record(entry("c"))
    found = await reports.usage(_ALL, ["model"], zone=_UTC)
    sums = {row.group[0]: (row.sums.cpu_s, row.sums.bytes_in, row.sums.bytes_out) for row in found.rows}
    assert sums == {"pocket": (0.0, 0, 0), "sandbox/py": (0.75, 11, 3_000_000_002)}
    assert (found.totals.requests, found.totals.cpu_s, found.totals.bytes_in) == (3, 0.75, 11)
    that_day = Filter(since=1_699_999_000.0, until=1_700_001_000.0)
    by_day = await reports.usage(that_day, ["day"], zone=_UTC)
    assert [row.sums.cpu_s for row in by_day.rows] == [0.75]
    _, of_models = await reports.statistics(_ALL)
    assert of_models["sandbox/py"].sums.bytes_in == 11


_LAB = Sums(
    requests=4,
    cached_requests=1,
    prompt_tokens=40,
    cached_tokens=16,
    completion_tokens=80,
    charged_tokens=90,
    cost_micros=64,
    seconds=6.25,
)


@pytest.mark.parametrize(
    ("dimensions", "groups"),
    [
        (["model"], {("pocket",): 3, ("big",): 1}),
        (["user"], {("ada",): 3, ("bob",): 1}),
        (["key"], {("key_a",): 3, ("key_b",): 1}),
        (["tenant"], {("lab",): 4}),
        (["day"], {("2023-11-14",): 4}),
        (["day", "user"], {("2023-11-14", "ada"): 3, ("2023-11-14", "bob"): 1}),
    ],
)
async def test_requests_by_group(
    ledger: Ledger, reports: Reports, dimensions: Sequence[Dimension], groups: dict[tuple[str, ...], int]
) -> None:
    await _record(ledger)
    page = (
        await reports.usage(replace(_ALL, tenant="lab"), dimensions, zone=_UTC)
        if "day" not in dimensions
        else (await reports.usage(Filter(since=1.7e9, until=1.7e9 + 100, tenant="lab"), dimensions, zone=_UTC))
    )
    assert {row.group: row.sums.requests for row in page.rows} == groups
    assert page.totals == _LAB
    assert page.next is None


async def test_the_rows_of_a_report_add_up_to_its_totals(ledger: Ledger, reports: Reports) -> None:
    await _record(ledger)
    page = await reports.usage(Filter(since=1.7e9, until=1.7e9 + 100), DIMENSIONS, zone=_UTC)
    for name in Sums.__slots__:
        assert sum(getattr(row.sums, name) for row in page.rows) == getattr(page.totals, name)
    assert page.totals.requests == 5


@pytest.mark.parametrize(
    ("wanted", "requests"),
    [
        (replace(_ALL, key_id="key_b"), 1),
        (replace(_ALL, account="key_a"), 3),
        (replace(_ALL, user="ada"), 4),
        (replace(_ALL, model="big"), 1),
        (replace(_ALL, route="/v1/stream"), 1),
        (replace(_ALL, outcome="cancelled"), 1),
        (replace(_ALL, tenant="lab", outcome="cancelled"), 0),
        (Filter(since=1_700_000_001.0, until=1_700_000_003.0), 2),
        (Filter(since=1_700_000_001.0, until=1_700_000_003.0, tenant="lab"), 2),
    ],
)
async def test_filters(ledger: Ledger, reports: Reports, wanted: Filter, requests: int) -> None:
    await _record(ledger)
    assert (await reports.usage(wanted, ["tenant"], zone=_UTC)).totals.requests == requests
    assert len((await reports.entries(wanted)).entries) == requests


@pytest.mark.parametrize(
    ("zone", "local", "day"),
    [
        (_UTC, "2026-03-28T23:59:59+00:00", "2026-03-28"),
        (_BERLIN, "2026-03-28T23:59:59+01:00", "2026-03-28"),
        (_BERLIN, "2026-03-29T00:00:00+01:00", "2026-03-29"),
        (_BERLIN, "2026-03-29T23:59:59+02:00", "2026-03-29"),  # a day of 23 hours
        (_BERLIN, "2026-03-30T00:00:00+02:00", "2026-03-30"),
        (_BERLIN, "2026-10-25T23:59:59+01:00", "2026-10-25"),  # a day of 25 hours
        (_BERLIN, "2026-10-26T00:00:00+01:00", "2026-10-26"),
    ],
)
async def test_a_day_is_that_of_the_zone(
    ledger: Ledger, reports: Reports, zone: zoneinfo.ZoneInfo, local: str, day: str
) -> None:
    at = datetime.fromisoformat(local).timestamp()
    await ledger.record(entry("1", at=at))
    page = await reports.usage(Filter(since=at - 86_400, until=at + 86_400), ["day"], zone=zone)
    assert [row.group for row in page.rows] == [(day,)]


@pytest.mark.parametrize("max_rows", [1, 2, 3, 100])
@pytest.mark.parametrize("dimensions", [["model"], ["day", "key", "model"]])
async def test_pages_have_every_group_once(
    ledger: Ledger, reports: Reports, dimensions: list[Dimension], max_rows: int
) -> None:
    for number in range(12):
        at, key_id, model = 1.7e9 + 86_400 * (number % 3), f"key_{number % 2}", f"model-{number % 4}"
        await ledger.record(entry(f"{number}", at=at, key_id=key_id, model=model))
    wanted = Filter(since=1.7e9, until=1.7e9 + 4 * 86_400)
    whole = (await reports.usage(wanted, dimensions, zone=_UTC)).rows
    found, after = [], None
    while True:
        page = await reports.usage(wanted, dimensions, zone=_UTC, after=after, max_rows=max_rows)
        assert len(page.rows) <= max_rows
        assert page.totals.requests == 12
        found += page.rows
        after = page.next
        if after is None:
            break
    assert found == whole
    assert sum(row.sums.requests for row in found) == 12
    assert [row async for rows in reports.all_usage(wanted, dimensions, zone=_UTC) for row in rows] == whole


@pytest.mark.parametrize("tenant", [None, "lab"])
async def test_the_log_is_newest_first_and_its_pages_have_every_entry_once(
    ledger: Ledger, reports: Reports, tenant: str | None
) -> None:
    entries = [entry(f"{number:02}", at=1.7e9 + number // 2) for number in range(11)]  # pairs of one moment
    for one in entries:
        await ledger.record(one)
    wanted, found, after = replace(_ALL, tenant=tenant), [], None
    while True:
        page = await reports.entries(wanted, after=after, max_rows=3)
        found += page.entries
        after = page.next
        if after is None:
            break
    assert found == entries[::-1]


@pytest.mark.parametrize("after", ["", "%%", "e30", "WzFd", "WyJhIiwgImIiXQ", "bnVsbA", "x" * 2000])
async def test_a_position_that_is_none_is_refused(reports: Reports, after: str) -> None:
    for ask in (
        lambda: reports.usage(_ALL, ["model"], zone=_UTC, after=after),
        lambda: reports.entries(_ALL, after=after),
    ):
        with pytest.raises(errors.InvalidRequest) as caught:
            await ask()
        assert caught.value.param == "after"


@pytest.mark.parametrize(
    ("count", "p50_s", "p95_s"),
    [(1, 1.0, 1.0), (2, 1.0, 2.0), (3, 2.0, 3.0), (10, 5.0, 10.0), (20, 10.0, 19.0), (100, 50.0, 95.0)],
)
async def test_percentiles_by_the_nearest_rank(
    ledger: Ledger, reports: Reports, count: int, p50_s: float, p95_s: float
) -> None:
    for number in range(count, 0, -1):
        await ledger.record(entry(f"{number}", seconds=float(number)))
    whole, models = await reports.statistics(_ALL)
    assert whole.latency == models["pocket"].latency == Latency(p50_s, p95_s)


async def test_statistics_by_model(ledger: Ledger, reports: Reports) -> None:
    await _record(ledger)
    whole, models = await reports.statistics(replace(_ALL, tenant="lab"))
    assert whole.sums == _LAB
    assert whole.latency == Latency(1.0, 3.0)  # of 0.25, 1, 2, 3
    assert list(models) == ["big", "pocket"]
    assert models["pocket"].latency == Latency(1.0, 2.0)  # of 0.25, 1, 2
    assert (models["pocket"].sums.requests, models["pocket"].sums.cached_requests) == (3, 1)


async def test_nothing_adds_up_to_nothing(reports: Reports) -> None:
    whole, models = await reports.statistics(_ALL)
    assert (whole.sums, whole.latency, models) == (Sums(), Latency(0.0, 0.0), {})
    page = await reports.usage(_ALL, ["model"], zone=_UTC)
    assert (page.rows, page.totals, page.next) == ([], Sums(), None)
