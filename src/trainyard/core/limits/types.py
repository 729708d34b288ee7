"""What is limited, how much of it is left, and what one piece of work takes of it."""

from dataclasses import dataclass, field

from msgspec import Struct


@dataclass(frozen=True, slots=True)
class Limits:
    """Bars over one sliding window; None = no bar.

    Attributes:
        requests: Requests that may begin within any window.
        tokens: Tokens that may be settled within any window; what runs counts with its reservation.
        concurrency: Requests that may run at the same moment.
    """

    requests: int | None = None
    tokens: int | None = None
    concurrency: int | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """Bars over one month; None = no bar.

    Attributes:
        tokens: Tokens per period.
        cost_micros: Millionths of the currency per period.
        time_zone: IANA name; the zone in which days begin.
        day: Day of the month on which a period begins at 00:00; a month that is shorter begins on its last day.
        reset_at: Unix seconds; a moment at which a period begins, in place of `day`; the next ones are months later.
    """

    tokens: int | None = None
    cost_micros: int | None = None
    time_zone: str = "UTC"
    day: int = 1
    reset_at: float | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing that limits are set for: a key or a tenant. A request has several and has to pass all of them.

    Attributes:
        name: `key:<id>` or `tenant:<name>`; the name under which consumption is counted.
    """

    name: str
    limits: Limits = field(default_factory=Limits)
    quota: Quota = field(default_factory=Quota)


class Amount(Struct, frozen=True, gc=False):
    """What one request takes beside being one request.

    Attributes:
        tokens: Of prompt and answers together.
        cost_micros: Millionths of the currency.
    """

    tokens: int = 0
    cost_micros: int = 0


class Standing(Struct, frozen=True, gc=False):
    """Where a caller stands with one bar, for the headers of an answer; of several subjects the tightest.

    Attributes:
        limit: The bar.
        remaining: What is left now, this request counted.
        reset_s: Seconds until all of it is there again, if nothing more is sent.
    """

    limit: int
    remaining: int
    reset_s: float


class Passed(Struct, kw_only=True):
    """A request that was let in.

    Attributes:
        subjects: For whom.
        requests: Standing of the request bar; None when no subject has one.
        tokens: Standing of the token bar; None when no subject has one.
    """

    subjects: tuple[Subject, ...]
    requests: Standing | None = None
    tokens: Standing | None = None


class Reservation(Passed, kw_only=True):
    """What a request holds from `reserve` to `settle` or `refund`.

    Attributes:
        id: Unique over all processes.
        amount: What is held.
        is_open: False once settled or refunded; doing either again changes nothing.
    """

    id: str
    amount: Amount
    is_open: bool = True
