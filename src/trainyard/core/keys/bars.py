"""What an administrator sets for one key or tenant: limits of a window, a monthly quota. Null = not set."""

import difflib
import functools
import zoneinfo
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, TypeVar

from trainyard.core import errors
from trainyard.core.limits.types import Limits, Quota
from trainyard.core.settings import LimitSettings

UNLIMITED = 0
"""A bar that is explicitly none, where null would mean the server's default; 0 could let nothing through anyway."""

MAX_REQUESTS = 1_000_000_000
MAX_CONCURRENCY = 1_000_000
MAX_TOKENS = 10**15
"""Far above use and below 2^53, so that every JSON reader takes it exactly."""

MAX_TIME = 253_402_300_800.0
"""The year 10000, at which calendars end."""

T = TypeVar("T", "OwnLimits", "OwnQuota")


@dataclass(frozen=True, slots=True)
class OwnLimits:
    """Limits as they are set for one key or tenant.

    Attributes:
        requests: Per window; null = the server's default for a key and no bar for a tenant, `UNLIMITED` = no bar.
        tokens: Per window, as above.
        concurrency: At the same moment, as above.
    """

    requests: int | None = None
    tokens: int | None = None
    concurrency: int | None = None

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            errors.InvalidRequest: A value is out of bounds; `param` is `limits.<name>`.
        """
        tops = {"requests": MAX_REQUESTS, "tokens": MAX_TOKENS, "concurrency": MAX_CONCURRENCY}
        for name, top in tops.items():
            if getattr(self, name) != UNLIMITED:
                _check_number(f"limits.{name}", getattr(self, name), top, "'unlimited' or null")

    def effective(self, defaults: LimitSettings | None) -> Limits:
        """Fill in what is not set.

        Args:
            defaults: The server's; None for a tenant, which has none.
        """
        return Limits(
            *(
                _bar(getattr(self, name), getattr(defaults, name, None))
                for name in ("requests", "tokens", "concurrency")
            )
        )


@dataclass(frozen=True, slots=True)
class OwnQuota:
    """A monthly quota as it is set for one key or tenant.

    Attributes:
        tokens: Per period; null = no bar.
        cost_micros: Millionths of the currency per period; null = no bar.
        time_zone: IANA name; null = the server's, `limits.time_zone`.
        day: Day of the month on which a period begins; null = the first.
        reset_at: Unix seconds; a moment at which a period begins, in place of `day`.
    """

    tokens: int | None = None
    cost_micros: int | None = None
    time_zone: str | None = None
    day: int | None = None
    reset_at: float | None = None

    def __post_init__(self) -> None:
        """Check the bounds.

        Raises:
            errors.InvalidRequest: A value is out of bounds; `param` is `quota.<name>`.
        """
        _check_number("quota.tokens", self.tokens, MAX_TOKENS)
        _check_number("quota.cost_micros", self.cost_micros, MAX_TOKENS)
        _check_number("quota.day", self.day, 31)
        if self.time_zone is not None:
            check_zone(self.time_zone, "quota.time_zone")
        if self.reset_at is not None and not 0 < self.reset_at < MAX_TIME:
            raise errors.InvalidRequest("quota.reset_at must be a Unix time in seconds", param="quota.reset_at")
        if self.reset_at is not None and self.day is not None:
            raise errors.InvalidRequest(
                "quota.day and quota.reset_at exclude each other; set the other one to null", param="quota.reset_at"
            )

    def effective(self, defaults: LimitSettings) -> Quota:
        """Fill in what is not set."""
        zone = self.time_zone or defaults.time_zone
        return Quota(self.tokens, self.cost_micros, zone, self.day or 1, self.reset_at)


def patched(own: T, patch: Mapping[str, Any] | None, param: str) -> T:
    """Set what a patch names and leave the rest; null instead of a patch sets everything to null.

    Raises:
        errors.InvalidRequest: It names something else, or the outcome is out of bounds.
    """
    if patch is None:
        return type(own)()
    names = [field.name for field in fields(own)]
    unknown = sorted(set(patch) - set(names))
    if unknown:
        raise errors.InvalidRequest(
            f"there is no {param}.{unknown[0]}; valid: {', '.join(names)}", param=f"{param}.{unknown[0]}"
        )
    return replace(own, **patch)


def columns(limits: OwnLimits, quota: OwnQuota) -> dict[str, object]:
    """Lay limits and quota out as the columns of a row."""
    return {**asdict(limits), **{_COLUMN[name]: value for name, value in asdict(quota).items()}}


def of_values(values: Sequence[Any]) -> tuple[OwnLimits, OwnQuota]:
    """Read limits and quota out of the values of a row, in the order of `columns`."""
    if values.count(None) == len(values):  # of most keys; thousands are read at once
        return NO_LIMITS, NO_QUOTA
    return OwnLimits(*values[:3]), OwnQuota(*values[3:])


_COLUMN = {
    "tokens": "quota_tokens",
    "cost_micros": "quota_micros",
    "time_zone": "quota_zone",
    "day": "quota_day",
    "reset_at": "quota_reset_at",
}


@functools.cache
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def check_zone(name: str, param: str) -> str:
    """Check the name of a time zone.

    Raises:
        errors.InvalidRequest: There is none of this name; the message has the nearest.
    """
    if name in _zones():
        return name
    near = difflib.get_close_matches(name[:64], _zones(), n=1)
    hint = f"did you mean {near[0]}?" if near else "write an IANA name such as UTC or Europe/Berlin"
    raise errors.InvalidRequest(f"{param} {name[:64]!r} is no time zone; {hint}", param=param)


def _bar(own: int | None, default: int | None) -> int | None:
    return default if own is None else own or None


def _check_number(param: str, value: object, high: int, others: str = "null") -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= high:
        raise errors.InvalidRequest(f"{param} must be a whole number from 1 to {high}, or {others}", param=param)


NO_LIMITS = OwnLimits()
NO_QUOTA = OwnQuota()
