"""What is asked of the ledger and what it answers."""

from dataclasses import dataclass, fields
from typing import Literal

from trainyard.core.ledger.types import Outcome

Dimension = Literal["key", "tenant", "user", "model", "day"]
"""What usage can be told apart by."""

DIMENSIONS: tuple[Dimension, ...] = ("key", "tenant", "user", "model", "day")


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which entries count; None = all.

    Attributes:
        since: At or after, Unix seconds.
        until: Before, Unix seconds.
        tenant: None only for those who may see all of them.
        key_id: `key_…`; this one key.
        account: Id of the first key of a chain of rotations; all keys of it.
        route: Template of the path.
    """

    since: float
    until: float
    tenant: str | None = None
    key_id: str | None = None
    account: str | None = None
    user: str | None = None
    model: str | None = None
    route: str | None = None
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What entries add up to.

    Attributes:
        cached_requests: Those that were answered from the cache.
        cached_tokens: Prompt tokens that were not computed again.
        charged_tokens: What counted against quotas.
        cost_micros: Millionths of the currency.
        seconds: From each request's arrival to its last token.
        cpu_s: User and system time of code that ran.
        bytes_in: Of code and files that came with requests.
        bytes_out: Of output and files that runs left, and of downloads.
    """

    requests: int = 0
    cached_requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    charged_tokens: int = 0
    cost_micros: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0


SUM_NAMES = tuple(field.name for field in fields(Sums))


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One group of a report.

    Attributes:
        group: Value of each dimension that was asked for, in that order; a day is `YYYY-MM-DD`.
        sums: Of its entries.
    """

    group: tuple[str, ...]
    sums: Sums


@dataclass(frozen=True, slots=True)
class Latency:
    """Seconds that half and 95 of 100 requests did not exceed: each is the time of a request that there was."""

    p50_s: float
    p95_s: float


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a model, or all of them, did in a window."""

    sums: Sums
    latency: Latency
