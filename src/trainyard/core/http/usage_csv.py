"""A report as comma-separated values (RFC 4180), safe to open in a spreadsheet."""

import csv
import io
from collections.abc import AsyncIterator, Sequence
from dataclasses import astuple

from trainyard.core.ledger.report_types import SUM_NAMES, Dimension, UsageRow

FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Beginnings that spreadsheets read as a formula (OWASP, CSV injection)."""

COLUMN_OF: dict[Dimension, str] = {
    "key": "key_id",
    "tenant": "tenant",
    "user": "user_id",
    "model": "model",
    "day": "day",
}


async def lines(dimensions: Sequence[Dimension], pages: AsyncIterator[list[UsageRow]]) -> AsyncIterator[bytes]:
    """Write the head, then each page as one piece."""
    yield _written([[*(COLUMN_OF[name] for name in dimensions), *SUM_NAMES]])
    async for page in pages:
        if page:
            yield _written([[*(safe(value) for value in row.group), *astuple(row.sums)] for row in page])


def safe(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would calculate."""
    return f"'{text}" if text.startswith(FORMULA_SIGNS) else text


def _written(rows: Sequence[Sequence[object]]) -> bytes:
    page = io.StringIO()
    csv.writer(page, lineterminator="\r\n").writerows(rows)
    return page.getvalue().encode()
