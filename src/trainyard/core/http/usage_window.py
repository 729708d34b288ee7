"""Which stretch of time a report is asked for."""

import math
import zoneinfo
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import Query

from trainyard.core import errors
from trainyard.core.http.usage_bodies import Window
from trainyard.core.limits import periods

MAX_WINDOW_DAYS = 400
"""A year and a month, to be compared with the one before; every day of it is a group."""

_DAY_S = 86_400
_LATEST = 4_102_444_800.0
"""The year 2100."""

_HOW = "write Unix seconds, a date such as 2026-01-31 or a time such as 2026-01-31T12:00:00Z"

From = Annotated[
    str | None, Query(alias="from", max_length=40, description=f"Begin of the window: {_HOW[6:]}, dates in the zone.")
]
To = Annotated[str | None, Query(alias="to", max_length=40, description="End of the window, excluded; now if absent.")]
Zone = Annotated[
    str | None, Query(max_length=64, description="IANA name of the zone in which days begin; the server's if absent.")
]


@dataclass(frozen=True, slots=True)
class Asked:
    """A window that was read.

    Attributes:
        since: Unix seconds.
        until: Unix seconds, excluded.
        zone: In which days begin.
    """

    since: float
    until: float
    zone: zoneinfo.ZoneInfo

    def body(self) -> Window:
        """Show it."""
        return Window(since=self.since, until=self.until, time_zone=self.zone.key)


def read(begin: str | None, end: str | None, zone_name: str, now: float, default_begin: float) -> Asked:
    """Read a window.

    Args:
        begin: As it came; None takes `default_begin`.
        end: As it came; None takes the next whole second, so that what was just settled is in it.
        zone_name: IANA name.
        now: Unix seconds.
        default_begin: Unix seconds.

    Raises:
        errors.InvalidRequest: One is no moment, or the window is empty or longer than `MAX_WINDOW_DAYS`; `param` names
            the parameter.
    """
    zone = periods.zone(zone_name)
    until = math.floor(now) + 1.0 if end is None else _moment(end, zone, "to")
    since = min(default_begin, until) if begin is None else _moment(begin, zone, "from")
    if not since < until:
        raise errors.InvalidRequest(f"from ({since:.0f}) has to be before to ({until:.0f})", param="from")
    if until - since > MAX_WINDOW_DAYS * _DAY_S:
        raise errors.InvalidRequest(
            f"The window has {(until - since) / _DAY_S:.0f} days; ask for {MAX_WINDOW_DAYS} at most", param="from"
        )
    return Asked(since, until, zone)


def month_begin(now: float, zone_name: str) -> float:
    """Tell when this month began in a zone, Unix seconds."""
    local = datetime.fromtimestamp(now, periods.zone(zone_name))
    return local.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()


def days_ago(now: float, days: int) -> float:
    """Tell when it was the same time some days ago, Unix seconds."""
    return max(0.0, now - timedelta(days=days).total_seconds())


def _moment(text: str, zone: zoneinfo.ZoneInfo, param: str) -> float:
    try:
        moment = float(text)
    except ValueError:
        moment = _of_words(text, zone, param)
    if not 0 <= moment <= _LATEST:
        raise errors.InvalidRequest(f"{param} lies outside of the years 1970 to 2099; {_HOW}", param=param)
    return moment


def _of_words(text: str, zone: zoneinfo.ZoneInfo, param: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError) as error:
        raise errors.InvalidRequest(f"{param} '{text}' is no moment; {_HOW}", param=param) from error
