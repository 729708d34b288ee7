"""The period of a quota: which stretch of time a moment belongs to. Pure functions.

Periods tile time without gap or overlap and begin on whole seconds:

* without `reset_at`, on `day` of each month at 00:00 in the quota's zone (a shorter month: on its last day);
* from `reset_at` on, at `reset_at` and each number of months later, at the same local time of the same day (a shorter
  month: its last day). Before `reset_at` they are those of `day`, and the one in which it lies ends there.

A local time that clocks skip is taken as the moment of the skip; one that comes twice as the first of the two.
"""

import calendar
import math
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from trainyard.core import errors
from trainyard.core.limits.types import Quota

LATEST_RESET_AT = 32_503_680_000
"""The year 3000; a `reset_at` later than that was meant in milliseconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` on and before `until`, Unix seconds."""

    since: int
    until: int


def check(quota: Quota) -> None:
    """Refuse a quota whose periods cannot be told.

    Raises:
        errors.InvalidRequest: `param` names the field: `time_zone` is no IANA name, `day` is not 1 to 31, or `reset_at`
            lies outside of the years 1970 to 2999.
    """
    zone(quota.time_zone)
    if not 1 <= quota.day <= 31:
        raise errors.InvalidRequest(f"day is {quota.day}; a day of the month is 1 to 31", param="day")
    if quota.reset_at is not None and not 0 <= quota.reset_at < LATEST_RESET_AT:
        raise errors.InvalidRequest(
            f"reset_at is {quota.reset_at}; write Unix seconds between 0 and {LATEST_RESET_AT}", param="reset_at"
        )


def zone(name: str) -> zoneinfo.ZoneInfo:
    """Look up an IANA zone.

    Raises:
        errors.InvalidRequest: There is none of that name; `param` is `time_zone`.
    """
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:  # "", "../x", a folder such as "Europe"
        raise errors.InvalidRequest(
            f"'{name}' is not a time zone; write an IANA name such as Europe/Berlin or UTC", param="time_zone"
        ) from error


def period_at(quota: Quota, moment: float) -> Period:
    """Tell the period in which a moment lies.

    Args:
        quota: Its zone, day and `reset_at` count; its bars do not.
        moment: Unix seconds.

    Raises:
        errors.InvalidRequest: The zone is unknown.
    """
    where = zone(quota.time_zone)
    if quota.reset_at is None:
        return _by_day(where, quota.day, moment)
    reset_at = math.floor(quota.reset_at)
    if moment >= reset_at:
        return _by_anchor(where, reset_at, moment)
    running = _by_day(where, quota.day, moment)
    return Period(running.since, min(running.until, reset_at))


def _by_day(where: zoneinfo.ZoneInfo, day: int, moment: float) -> Period:
    midnight = datetime.min

    def begin(month: int) -> int:
        return _moment(where, _in_month(midnight, month, day))

    return _around(begin, _month(_local(where, moment)), moment)


def _by_anchor(where: zoneinfo.ZoneInfo, reset_at: int, moment: float) -> Period:
    anchor = _local(where, reset_at)
    first = _month(anchor)

    def begin(month: int) -> int:
        return reset_at if month == first else _moment(where, _in_month(anchor, month, anchor.day))

    return _around(begin, max(first, _month(_local(where, moment))), moment)


def _around(begin: Callable[[int], int], month: int, moment: float) -> Period:
    """Find the neighbouring beginnings around a moment, from the month on in which it lies."""
    while moment < begin(month):
        month -= 1
    while moment >= begin(month + 1):
        month += 1
    return Period(begin(month), begin(month + 1))


def _month(local: datetime) -> int:
    """Number months through."""
    return local.year * 12 + local.month - 1


def _in_month(time_of_day: datetime, month: int, day: int) -> datetime:
    year, index = divmod(month, 12)
    last = calendar.monthrange(year, index + 1)[1]
    return time_of_day.replace(year=year, month=index + 1, day=min(day, last), fold=0)


def _local(where: zoneinfo.ZoneInfo, moment: float) -> datetime:
    return (_EPOCH + timedelta(seconds=math.floor(moment))).astimezone(where).replace(tzinfo=None)


def _moment(where: zoneinfo.ZoneInfo, local: datetime) -> int:
    """Give the Unix seconds of a local time; of one that is skipped, those of the skip."""
    later = _seconds(where, local, fold=0)
    if _local(where, later) == local:
        return later
    # By the offset before the skip it would come after the skip, by the offset after it before: so the skip is between.
    earlier = _seconds(where, local, fold=1)
    while later - earlier > 1:
        middle = (earlier + later) // 2
        if _local(where, middle) < local:
            earlier = middle
        else:
            later = middle
    return later


def _seconds(where: zoneinfo.ZoneInfo, local: datetime, *, fold: int) -> int:
    return int((local.replace(tzinfo=where, fold=fold) - _EPOCH).total_seconds())
