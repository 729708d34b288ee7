"""Bodies of the routes that show usage."""

from typing import Literal

import pydantic
from pydantic import Field

from trainyard.core.ledger.types import Outcome


class Result(pydantic.BaseModel):
    """What the server answers."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class Totals(Result):
    """What requests add up to."""

    requests: int = Field(description="Requests that did work or were answered from the cache.")
    cached_requests: int = Field(description="Those that were answered from the cache.")
    prompt_tokens: int = Field(description="As the answers said.")
    cached_tokens: int = Field(description="Prompt tokens that were not computed again.")
    completion_tokens: int = Field(description="As the answers said.")
    total_tokens: int = Field(description="Prompt and completion tokens.")
    charged_tokens: int = Field(description="What counts against quotas; answers from the cache are free.")
    cost_micros: int = Field(description="Millionths of the currency.")
    seconds: float = Field(description="From each request's arrival to its last token, added up.")
    cpu_s: float = Field(description="User and system time of code that ran in the sandbox.")
    bytes_in: int = Field(description="Of code and files that came to the sandbox.")
    bytes_out: int = Field(description="Of output and files that runs in the sandbox left, and of downloads.")


class Group(Totals):
    """One group of a report; the fields by which it is not grouped are null."""

    key_id: str | None = Field(default=None, description="With `group_by=key`, else null.")
    tenant: str | None = Field(default=None, description="With `group_by=tenant`, else null.")
    user_id: str | None = Field(default=None, description="With `group_by=user`, else null.")
    model: str | None = Field(default=None, description="With `group_by=model`, else null.")
    day: str | None = Field(default=None, description="With `group_by=day`, else null: `YYYY-MM-DD`.")


class Window(Result):
    """A stretch of time."""

    since: float = Field(description="Its begin, Unix seconds.")
    until: float = Field(description="Its end, which does not belong to it any more, Unix seconds.")
    time_zone: str = Field(description="IANA name of the zone in which days begin.")


class UsageReport(Result):
    """What `GET /v1/admin/usage` answers."""

    window: Window = Field(description="As it was read.")
    results: list[Group] = Field(description="By the values of their groups.")
    totals: Totals = Field(description="Of the whole window, whatever the page.")
    next: str | None = Field(description="Send it as `after` for the next page; null on the last.")


class LogEntry(Result):
    """One request."""

    entry_id: str = Field(description="`use_…`; unique.")
    at: float = Field(description="When it was settled, Unix seconds.")
    tenant: str = Field(description="Of the key.")
    user_id: str = Field(description="Owner of the key.")
    key_id: str = Field(description="`key_…` that asked.")
    request_id: str = Field(description="Of the answer's `X-Request-ID`.")
    route: str = Field(description="Template of the path.")
    model: str = Field(description="That answered.")
    outcome: Outcome = Field(
        description="`cancelled` when the caller left, `failed` when it ended by an error after tokens were sent."
    )
    cached: bool = Field(description="Whether the answer came from the cache.")
    prompt_tokens: int = Field(description="As the answer said.")
    cached_tokens: int = Field(description="Prompt tokens that were not computed again.")
    completion_tokens: int = Field(description="As the answer said.")
    charged_tokens: int = Field(description="What counted against quotas.")
    cost_micros: int = Field(description="Millionths of the currency.")
    seconds: float = Field(description="From the request's arrival to its last token.")


class UsageLog(Result):
    """What `GET /v1/admin/logs` answers."""

    window: Window = Field(description="As it was read.")
    results: list[LogEntry] = Field(description="Newest first.")
    next: str | None = Field(description="Send it as `after` for the next page; null on the last.")


class ModelStatistics(Totals):
    """What a model, or all together, did."""

    model: str | None = Field(description="Its name; null for all together.")
    cached_share: float = Field(description="Share of the requests that were answered from the cache, 0 to 1.")
    mean_s: float = Field(description="Mean seconds of a request.")
    p50_s: float = Field(description="Seconds that half of the requests did not exceed.")
    p95_s: float = Field(description="Seconds that 95 of 100 requests did not exceed.")


class UsageStatistics(Result):
    """What `GET /v1/admin/stats` answers."""

    window: Window = Field(description="As it was read.")
    totals: ModelStatistics = Field(description="All models together.")
    models: list[ModelStatistics] = Field(description="Each model that answered, by name.")


class OwnLimits(Result):
    """Bars over the sliding window; null = no bar."""

    requests: int | None = Field(description="Requests per window.")
    tokens: int | None = Field(description="Tokens per window.")
    concurrency: int | None = Field(description="Requests at the same moment.")
    window_s: float = Field(description="Length of the window.")


class QuotaBar(Result):
    """One bar of a month."""

    limit: int = Field(description="The bar.")
    used: int = Field(description="What was charged in this period.")
    left: int = Field(description="What is left; work that runs may hold some of it.")


class OwnQuota(Result):
    """A monthly quota and where it stands."""

    tokens: QuotaBar | None = Field(description="Tokens; null = no bar.")
    cost_micros: QuotaBar | None = Field(description="Millionths of the currency; null = no bar.")
    since: float = Field(description="When this period began, Unix seconds.")
    resets_at: float = Field(description="When the next one begins, Unix seconds.")
    time_zone: str = Field(description="IANA name of the zone in which it begins.")


class Standing(Result):
    """The limits of one subject."""

    scope: Literal["key", "tenant"] = Field(description="Whose limits: the key's with those it replaced, or all keys'.")
    name: str = Field(description="Id of the key's account, or name of the tenant.")
    limits: OwnLimits = Field(description="Over the window.")
    quota: OwnQuota = Field(description="Over the month.")


class OwnUsage(Result):
    """What `GET /v1/me/usage` answers."""

    key_id: str = Field(description="The key that asked, by its id.")
    tenant: str = Field(description="Of the key.")
    user_id: str = Field(description="Owner of the key.")
    standings: list[Standing] = Field(description="Every request has to pass all of them.")
    period: Window = Field(description="Of the key's quota, or this month; what is below is of it.")
    totals: Totals = Field(description="Of this key and those that it replaced.")
    by_model: list[Group] = Field(description="By name, 1000 at most.")
    by_day: list[Group] = Field(description="Days with requests.")
