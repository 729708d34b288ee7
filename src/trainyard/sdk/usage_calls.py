"""The verbs about usage as calls: your own with any key, everybody's with the scope `admin`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx

from trainyard.sdk import errors
from trainyard.sdk.admin_calls import with_query
from trainyard.sdk.call import Call, given
from trainyard.sdk.usage_results import (
    Group,
    LogEntry,
    ModelStatistics,
    Totals,
    Usage,
    UsageLog,
    UsageReport,
    UsageStatistics,
)

Moment = float | str | datetime
"""Unix seconds, or ISO 8601, in the report's time zone when it names none itself."""


@dataclass(frozen=True, slots=True)
class TextCall(Call[str]):
    """A call that is answered with text."""

    def result(self, response: httpx.Response) -> str:
        """Read the answer, or raise what it says."""
        if response.is_error:
            raise errors.from_response(response)
        return self.read(response.text)


def usage() -> Call[Usage]:
    """Show the limits of your key and its tenant, and what your key has used; asking is free."""
    return Call("GET", "/v1/me/usage", _usage, is_idempotent=True)


def usage_report(
    group_by: Sequence[str] = ("model",),
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    time_zone: str | None = None,
    tenant: str | None = None,
    key: str | None = None,
    user: str | None = None,
    model: str | None = None,
    limit: int | None = None,
    after: str | None = None,
) -> Call[UsageReport]:
    """Add up usage by key, tenant, user, model or day, one page at a time.

    Args:
        group_by: What to tell apart.
        since: Begin of the window; that of this month when left out.
        until: End of the window, excluded; now when left out.
        time_zone: IANA name of the zone in which days begin; the server's when left out.
        tenant: Only of this tenant.
        key: Only of this key, by its id.
        user: Only of this owner.
        model: Only of this model.
        limit: Groups per page.
        after: `next` of the page before.
    """
    path = _report(group_by, since, until, time_zone, tenant, key, user, model, limit=limit, after=after)
    return Call("GET", path, _page, is_idempotent=True)


def usage_csv(
    group_by: Sequence[str] = ("model",),
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    time_zone: str | None = None,
    tenant: str | None = None,
    key: str | None = None,
    user: str | None = None,
    model: str | None = None,
) -> Call[str]:
    """Do as `usage_report`, all groups at once, as comma-separated values with a head line."""
    path = _report(group_by, since, until, time_zone, tenant, key, user, model, format="csv")
    return TextCall("GET", path, str, is_idempotent=True)


def usage_logs(
    *,
    since: Moment | None = None,
    until: Moment | None = None,
    tenant: str | None = None,
    key: str | None = None,
    user: str | None = None,
    model: str | None = None,
    route: str | None = None,
    outcome: str | None = None,
    limit: int | None = None,
    after: str | None = None,
) -> Call[UsageLog]:
    """List single requests of the last 30 days or of a window, newest first, one page at a time."""
    query = _window(since, until) | given(
        tenant=tenant, key=key, user=user, model=model, route=route, outcome=outcome, limit=limit, after=after
    )
    return Call("GET", with_query("/v1/admin/logs", query), _log, is_idempotent=True)


def usage_stats(
    *, since: Moment | None = None, until: Moment | None = None, tenant: str | None = None
) -> Call[UsageStatistics]:
    """Tell what each model did in the last 30 days or in a window: totals, share of cached answers, latency."""
    query = _window(since, until) | given(tenant=tenant)
    return Call("GET", with_query("/v1/admin/stats", query), _statistics, is_idempotent=True)


def _report(
    group_by: Sequence[str],
    since: Moment | None,
    until: Moment | None,
    time_zone: str | None,
    tenant: str | None,
    key: str | None,
    user: str | None,
    model: str | None,
    **more: object,
) -> str:
    facts = given(time_zone=time_zone, tenant=tenant, key=key, user=user, model=model, **more)
    return with_query("/v1/admin/usage", {"group_by": ",".join(group_by), **_window(since, until), **facts})


def _window(since: Moment | None, until: Moment | None) -> dict[str, object]:
    ends = {"from": since, "to": until}
    return {
        name: moment.isoformat() if isinstance(moment, datetime) else moment
        for name, moment in ends.items()
        if moment is not None
    }


def _usage(body: Any) -> Usage:
    groups = {name: [Group(row) for row in body[name]] for name in ("by_model", "by_day")}
    return Usage({**body, **groups, "totals": Totals(body["totals"])})


def _page(body: Any) -> UsageReport:
    results = [Group(row) for row in body["results"]]
    return UsageReport({**body, "results": results, "totals": Totals(body["totals"])})


def _log(body: Any) -> UsageLog:
    return UsageLog({**body, "results": [LogEntry(entry) for entry in body["results"]]})


def _statistics(body: Any) -> UsageStatistics:
    models = [ModelStatistics(one) for one in body["models"]]
    return UsageStatistics({**body, "totals": ModelStatistics(body["totals"]), "models": models})
