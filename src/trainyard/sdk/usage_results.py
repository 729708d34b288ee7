"""What the calls about usage answer; costs are millionths of the currency, times are Unix seconds."""

from trainyard.sdk.results import Result


class Totals(Result):
    """What requests add up to."""

    requests: int
    cached_requests: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    total_tokens: int
    charged_tokens: int
    cost_micros: int
    seconds: float
    cpu_s: float
    bytes_in: int
    bytes_out: int


class Group(Totals):
    """One group of a report; what it is not grouped by is None."""

    key_id: str | None
    tenant: str | None
    user_id: str | None
    model: str | None
    day: str | None


class Usage(Result):
    """Answer of `usage`: the limits of your key and its tenant, and what your key has used in this period."""

    key_id: str
    tenant: str
    user_id: str
    standings: list[Result]
    period: Result
    totals: Totals
    by_model: list[Group]
    by_day: list[Group]


class UsageReport(Result):
    """Answer of `usage_report`: one page of groups, and `next` for the page after; None on the last."""

    window: Result
    results: list[Group]
    totals: Totals
    next: str | None


class LogEntry(Result):
    """One request; there is no prompt and no answer in it."""

    entry_id: str
    at: float
    tenant: str
    user_id: str
    key_id: str
    request_id: str
    route: str
    model: str
    outcome: str
    cached: bool
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    charged_tokens: int
    cost_micros: int
    seconds: float


class UsageLog(Result):
    """Answer of `usage_logs`: one page of requests, newest first, and `next` for the page after; None on the last."""

    window: Result
    results: list[LogEntry]
    next: str | None


class ModelStatistics(Totals):
    """What a model did; `model` is None for all together."""

    model: str | None
    cached_share: float
    mean_s: float
    p50_s: float
    p95_s: float


class UsageStatistics(Result):
    """Answer of `usage_stats`."""

    window: Result
    totals: ModelStatistics
    models: list[ModelStatistics]
