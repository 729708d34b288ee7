"""Days of a time zone as stretches of time."""

import zoneinfo
from datetime import date, datetime, timedelta

from trainyard.core.ledger.store.reports import Day


def days_of(since: float, until: float, zone: zoneinfo.ZoneInfo) -> list[Day]:
    """List the days of a zone that a window touches; a day is 23 or 25 hours long where clocks change.

    Args:
        since: Unix seconds, at or after 1970.
        until: Unix seconds, after `since`.
        zone: In which midnights lie.
    """
    day = datetime.fromtimestamp(since, zone).date()
    found: list[Day] = []
    begin = _midnight(day, zone)
    while begin < until:
        day += timedelta(days=1)
        end = _midnight(day, zone)
        found.append(((day - timedelta(days=1)).isoformat(), begin, end))
        begin = end
    return found


def _midnight(day: date, zone: zoneinfo.ZoneInfo) -> float:
    """First moment of a day; where clocks skip midnight, the moment of the skip by the offset before it."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).timestamp()
