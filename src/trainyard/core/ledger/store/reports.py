"""Sums, single entries and percentiles for people who look at usage."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Double,
    Integer,
    Row,
    String,
    Subquery,
    and_,
    case,
    cast,
    column,
    func,
    select,
    tuple_,
    values,
)
from sqlalchemy.sql.selectable import CTE

from trainyard.core.ledger.report_types import SUM_NAMES, Dimension, Filter, Latency, Sums, UsageRow
from trainyard.core.ledger.store import rows
from trainyard.core.ledger.store.rows import usage
from trainyard.core.ledger.store.work import work
from trainyard.core.ledger.types import Entry

Day = tuple[str, float, float]
"""Name, begin and end of a day, Unix seconds."""

_COLUMN: Mapping[str, ColumnElement[str]] = {
    "key": usage.c.key_id,
    "tenant": usage.c.tenant,
    "user": usage.c.owner,
    "model": usage.c.model,
}

_SUMS: Sequence[ColumnElement[Any]] = (
    func.count(),
    func.sum(cast(usage.c.cached, Integer)),
    *(func.sum((work if name in work.c else usage).c[name]) for name in SUM_NAMES[2:]),
)
_SECONDS = ("seconds", "cpu_s")
_WITH_WORK = usage.outerjoin(work, work.c.entry_id == usage.c.entry_id)
"""Few entries have a row there, so that this costs a look into a small index each."""


def totals(connection: Connection, wanted: Filter) -> Sums:
    """Sum all entries of a filter."""
    return _sums(connection.execute(select(*_SUMS).select_from(_WITH_WORK).where(*_conditions(wanted))).one())


def grouped(
    connection: Connection,
    wanted: Filter,
    dimensions: Sequence[Dimension],
    days: Sequence[Day],
    after: Sequence[str] | None,
    max_rows: int,
) -> list[UsageRow]:
    """Sum entries by group, in the order of the groups' values.

    Args:
        connection: A transaction.
        wanted: Which entries.
        dimensions: At least one.
        days: Those that the filter's window touches; read when `day` is among the dimensions.
        after: Values of the last group of the page before.
        max_rows: Groups at most.
    """
    calendar = _calendar(days) if "day" in dimensions else None
    by = [_COLUMN[name] if calendar is None or name != "day" else calendar.c.day for name in dimensions]
    source: Any = _WITH_WORK
    if calendar is not None:
        is_in_day = and_(usage.c.at >= calendar.c.since, usage.c.at < calendar.c.until)
        source = _WITH_WORK.join(calendar, is_in_day)
    asked = select(*by, *_SUMS).select_from(source).where(*_conditions(wanted)).group_by(*by).order_by(*by)
    if after is not None:
        asked = asked.where(tuple_(*by) > tuple_(*after))
    found = connection.execute(asked.limit(max_rows)).all()
    return [UsageRow(tuple(row[: len(by)]), _sums(row[len(by) :])) for row in found]


def entries(connection: Connection, wanted: Filter, before: tuple[float, str] | None, max_rows: int) -> list[Entry]:
    """List single entries, newest first.

    Args:
        connection: A transaction.
        wanted: Which entries.
        before: Time and id of the last entry of the page before.
        max_rows: Entries at most.
    """
    asked = select(usage).where(*_conditions(wanted))
    if before is not None and _has_index(wanted):
        asked = asked.where(tuple_(usage.c.at, usage.c.entry_id) < tuple_(*before))
    elif before is not None:
        asked = asked.where(usage.c.entry_id < before[1])
    # Ids sort by time too. Where no index on `at` fits the filter, the primary key gives the order without sorting.
    times = [usage.c.at.desc()] if _has_index(wanted) else []
    newest = asked.order_by(*times, usage.c.entry_id.desc()).limit(max_rows)
    return [_entry(row) for row in connection.execute(newest)]


def sums_by_model(connection: Connection, wanted: Filter) -> dict[str, Sums]:
    """Sum entries by model."""
    asked = select(usage.c.model, *_SUMS).select_from(_WITH_WORK).where(*_conditions(wanted)).group_by(usage.c.model)
    return {row[0]: _sums(row[1:]) for row in connection.execute(asked)}


def latency_by_model(connection: Connection, wanted: Filter) -> dict[str, Latency]:
    """Find the percentiles of each model by the nearest rank."""
    ranked = _ranked(wanted, [usage.c.model])
    asked = select(ranked.c.model, *_at_ranks(ranked)).group_by(ranked.c.model)
    return {row[0]: Latency(row[1], row[2]) for row in connection.execute(asked)}


def latency(connection: Connection, wanted: Filter) -> Latency:
    """Find the percentiles of all entries by the nearest rank; 0 when there are none."""
    row = connection.execute(select(*_at_ranks(_ranked(wanted, [])))).one()
    return Latency(row[0] or 0.0, row[1] or 0.0)


def _ranked(wanted: Filter, partition: Sequence[ColumnElement[str]]) -> Subquery:
    whole = {"partition_by": partition} if partition else {}
    return (
        select(
            usage.c.model,
            usage.c.seconds,
            func.row_number().over(order_by=usage.c.seconds, **whole).label("rank"),  # type: ignore[arg-type]
            func.count().over(**whole).label("size"),  # type: ignore[arg-type]
        )
        .where(*_conditions(wanted))
        .subquery()
    )


def _at_ranks(ranked: Subquery) -> list[ColumnElement[float | None]]:
    return [
        func.max(case((ranked.c.rank == (ranked.c.size * percent + 99) // 100, ranked.c.seconds)))
        for percent in (50, 95)
    ]


def _calendar(days: Sequence[Day]) -> CTE:
    named = values(column("day", String), column("since", Double), column("until", Double), name="days")
    return named.data(list(days)).cte("calendar")


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    equal = {
        usage.c.tenant: wanted.tenant,
        usage.c.key_id: wanted.key_id,
        usage.c.owner: wanted.user,
        usage.c.model: wanted.model,
        usage.c.route: wanted.route,
        usage.c.outcome: wanted.outcome,
    }
    window = [usage.c.at >= wanted.since, usage.c.at < wanted.until]
    if not _has_index(wanted):
        first, behind = rows.entry_id(wanted.since, ""), rows.entry_id(wanted.until + 0.002, "")
        window += [usage.c.entry_id >= first, usage.c.entry_id < behind]
    if wanted.account is not None:
        window.append(rows.is_of(f"key:{wanted.account}"))
    return window + [field == value for field, value in equal.items() if value is not None]


def _has_index(wanted: Filter) -> bool:
    return any(value is not None for value in (wanted.tenant, wanted.key_id, wanted.account))


def _sums(row: Sequence[Any] | Row[Any]) -> Sums:
    return Sums(**{name: _sum(name, value) for name, value in zip(SUM_NAMES, row, strict=True)})


def _sum(name: str, value: Any) -> Any:
    return round(float(value or 0.0), 6) if name in _SECONDS else int(value or 0)


def _entry(row: Row[Any]) -> Entry:
    fields = dict(row._mapping)
    fields["user"] = fields.pop("owner")
    return Entry(**fields)
