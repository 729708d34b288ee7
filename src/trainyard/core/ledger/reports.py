"""Usage for people: sums by what they want to tell apart, single entries, statistics."""

import base64
import binascii
import zoneinfo
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from trainyard.core import errors
from trainyard.core.db import Database
from trainyard.core.ledger.days import days_of
from trainyard.core.ledger.report_types import Dimension, Filter, Statistics, Sums, UsageRow
from trainyard.core.ledger.store import reports, rows
from trainyard.core.ledger.types import Entry

MAX_PAGE = 1000

_PATIENCE_S = 60.0

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Usage:
    """One page of sums.

    Attributes:
        rows: By the values of their groups.
        totals: Of the whole window, whatever the page.
        next: Cursor of the next page; None on the last.
    """

    rows: list[UsageRow]
    totals: Sums
    next: str | None


@dataclass(frozen=True, slots=True)
class Log:
    """One page of entries, newest first.

    Attributes:
        next: Cursor of the next page; None on the last.
    """

    entries: list[Entry]
    next: str | None


class Reports:
    """Reads the rows of usage; what waits in a spool is not in them yet."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def usage(
        self,
        wanted: Filter,
        dimensions: Sequence[Dimension],
        *,
        zone: zoneinfo.ZoneInfo,
        after: str | None = None,
        max_rows: int = 100,
    ) -> Usage:
        """Sum entries by group.

        Args:
            wanted: Which entries.
            dimensions: One or more, each once; rows come in the order of their values.
            zone: In which days begin.
            after: `next` of the page before, of the same question.
            max_rows: 1 to `MAX_PAGE`.

        Raises:
            errors.InvalidRequest: `after` is no cursor of this question.
            errors.Unavailable: The database does not answer.
        """
        position = None if after is None else _read_cursor(after, list[str])
        if position is not None and len(position) != len(dimensions):
            raise _no_cursor()
        return await self._database.call(self._usage, wanted, dimensions, zone, position, max_rows)

    async def all_usage(
        self, wanted: Filter, dimensions: Sequence[Dimension], *, zone: zoneinfo.ZoneInfo
    ) -> AsyncIterator[list[UsageRow]]:
        """Sum entries by group, page by page to the end.

        Raises:
            errors.Unavailable: The database does not answer.
        """
        position: Sequence[str] | None = None
        while position is None or position:
            page = await self._database.call(self._grouped, wanted, dimensions, zone, position, MAX_PAGE)
            yield page
            position = page[-1].group if len(page) == MAX_PAGE else ()

    async def entries(self, wanted: Filter, *, after: str | None = None, max_rows: int = 100) -> Log:
        """List single entries, newest first.

        Raises:
            errors.InvalidRequest: `after` is no cursor.
            errors.Unavailable: The database does not answer.
        """
        before = None if after is None else _read_cursor(after, tuple[float, str])
        found = await self._database.call(self._entries, wanted, before, max_rows + 1)
        page = found[:max_rows]
        return Log(page, _cursor((page[-1].at, page[-1].entry_id)) if len(found) > max_rows else None)

    async def statistics(self, wanted: Filter) -> tuple[Statistics, dict[str, Statistics]]:
        """Tell what all models together, and each, did in a window.

        Raises:
            errors.Unavailable: The database does not answer.
        """
        return await self._database.call(self._statistics, wanted)

    # ------------------------------------------------------------------ in the database's threads

    def _usage(
        self,
        wanted: Filter,
        dimensions: Sequence[Dimension],
        zone: zoneinfo.ZoneInfo,
        after: Sequence[str] | None,
        max_rows: int,
    ) -> Usage:
        with self._database.read(patience_s=_PATIENCE_S) as connection:
            rows.hold_still(connection)  # so that rows and totals add up
            days = days_of(wanted.since, wanted.until, zone) if "day" in dimensions else []
            found = reports.grouped(connection, wanted, dimensions, days, after, max_rows + 1)
            totals = reports.totals(connection, wanted)
        page = found[:max_rows]
        return Usage(page, totals, _cursor(page[-1].group) if len(found) > max_rows else None)

    def _grouped(
        self,
        wanted: Filter,
        dimensions: Sequence[Dimension],
        zone: zoneinfo.ZoneInfo,
        after: Sequence[str] | None,
        max_rows: int,
    ) -> list[UsageRow]:
        days = days_of(wanted.since, wanted.until, zone) if "day" in dimensions else []
        with self._database.read(patience_s=_PATIENCE_S) as connection:
            return reports.grouped(connection, wanted, dimensions, days, after, max_rows)

    def _entries(self, wanted: Filter, before: tuple[float, str] | None, max_rows: int) -> list[Entry]:
        with self._database.read(patience_s=_PATIENCE_S) as connection:
            return reports.entries(connection, wanted, before, max_rows)

    def _statistics(self, wanted: Filter) -> tuple[Statistics, dict[str, Statistics]]:
        with self._database.read(patience_s=_PATIENCE_S) as connection:
            rows.hold_still(connection)
            sums, latency = reports.sums_by_model(connection, wanted), reports.latency_by_model(connection, wanted)
            whole = Statistics(reports.totals(connection, wanted), reports.latency(connection, wanted))
        return whole, {model: Statistics(sums[model], latency[model]) for model in sorted(sums)}


def _cursor(values: object) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(values)).rstrip(b"=").decode()


def _read_cursor(text: str, kind: type[Item]) -> Item:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(raw, type=kind)
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise _no_cursor() from error


def _no_cursor() -> errors.InvalidRequest:
    return errors.InvalidRequest(
        "after is not a position of this question; send the `next` of its page before", param="after"
    )
