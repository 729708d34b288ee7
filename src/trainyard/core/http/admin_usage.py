"""`/v1/admin/usage`, `/v1/admin/logs`, `/v1/admin/stats`: what was used, for administrators."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from msgspec import structs
from pydantic import BeforeValidator
from starlette.responses import Response, StreamingResponse

from trainyard.core import errors
from trainyard.core.clock import Clock
from trainyard.core.http import auth, error_bodies, query, usage_csv, usage_window
from trainyard.core.http.usage_bodies import (
    Group,
    LogEntry,
    ModelStatistics,
    Totals,
    UsageLog,
    UsageReport,
    UsageStatistics,
)
from trainyard.core.http.usage_window import From, To, Zone
from trainyard.core.keys import APIKeyManager
from trainyard.core.ledger.report_types import Dimension, Filter, Statistics, Sums, UsageRow
from trainyard.core.ledger.reports import MAX_PAGE, Reports
from trainyard.core.ledger.types import Outcome
from trainyard.core.principal import Principal

Admin = Annotated[Principal, Depends(auth.principal("admin"))]
"""The principal of a key that may administer."""

_DAYS = 30


def _split(values: list[str]) -> list[str]:
    """Take `group_by=key,day` as well as `group_by=key&group_by=day`."""
    return [part for value in values for part in value.split(",")]


GroupBy = Annotated[
    list[Dimension],
    BeforeValidator(_split),
    Query(min_length=1, max_length=5, description="What to tell apart, several times or with commas; each once."),
]
Tenant = Annotated[
    str | None,
    Query(max_length=128, description="Only of this tenant; operators see all, other administrators their own."),
]
Key = Annotated[str | None, Query(max_length=64, description="Only of this key, `key_…`.")]
User = Annotated[str | None, Query(max_length=128, description="Only of this owner.")]
Model = Annotated[str | None, Query(max_length=255, description="Only of this model.")]
Route = Annotated[str | None, Query(max_length=128, description="Only of this route, such as `/v1/generate`.")]
OfOutcome = Annotated[Outcome | None, Query(description="Only requests that ended so.")]
After = Annotated[str | None, Query(max_length=2048, description="`next` of the page before.")]

_CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}
_FAILURES = error_bodies.responses("native", errors.NotFound, errors.Unavailable)


@dataclass(frozen=True, slots=True)
class _Desk:
    """What the routes share."""

    keys: APIKeyManager
    reports: Reports
    clock: Clock

    @property
    def default_zone(self) -> str:
        """The zone of those who name none, as of now."""
        return self.keys.defaults.time_zone

    def visible(self, who: Principal, tenant: str | None) -> str | None:
        """Tell which tenant's rows to show; None = all."""
        by = self.keys.authority(who)
        if tenant is None:
            return None if by.is_operator else by.tenant
        if not by.sees(tenant):
            raise errors.NotFound(f"There is no tenant '{tenant}' that your key sees", param="tenant")
        return tenant

    def month(self, begin: str | None, end: str | None, zone: str | None) -> usage_window.Asked:
        """Read a window that begins with this month unless told otherwise."""
        now, name = self.clock.now(), zone or self.default_zone
        return usage_window.read(begin, end, name, now, usage_window.month_begin(now, name))

    def lately(self, begin: str | None, end: str | None) -> usage_window.Asked:
        """Read a window that begins 30 days ago unless told otherwise."""
        now = self.clock.now()
        return usage_window.read(begin, end, self.default_zone, now, usage_window.days_ago(now, _DAYS))


def router(keys: APIKeyManager, reports: Reports, clock: Clock) -> APIRouter:
    """Build the routes; an administrator sees his own tenant, an operator all of them.

    Args:
        keys: Knows who is an operator, and the zone in which the server's months begin.
        reports: Answer.
        clock: Tells what now is.
    """
    routes = APIRouter(prefix="/v1/admin", tags=["administration"], dependencies=[Depends(query.only_known)])
    desk = _Desk(keys, reports, clock)
    _add_usage(routes, desk)
    _add_logs(routes, desk)
    _add_stats(routes, desk)
    return routes


def _add_usage(routes: APIRouter, desk: _Desk) -> None:
    @routes.get(
        "/usage",
        summary="Usage by key, tenant, user, model or day",
        response_model=UsageReport,
        responses={**_CSV, **_FAILURES},
    )
    async def usage(
        who: Admin,
        group_by: GroupBy = ["model"],  # noqa: B006 - FastAPI copies it
        begin: From = None,
        end: To = None,
        time_zone: Zone = None,
        tenant: Tenant = None,
        key: Key = None,
        user: User = None,
        model: Model = None,
        format: Annotated[Literal["json", "csv"], Query(description="`csv` has all rows at once.")] = "json",
        limit: Annotated[int | None, Query(ge=1, le=MAX_PAGE, description="Groups per page; 100 if absent.")] = None,
        after: After = None,
    ) -> UsageReport | Response:
        """Add up what was used, from the begin of this month unless told otherwise."""
        asked = desk.month(begin, end, time_zone)
        if len(set(group_by)) < len(group_by):
            raise errors.InvalidRequest("group_by names something twice", param="group_by")
        wanted = Filter(
            since=asked.since, until=asked.until, tenant=desk.visible(who, tenant), key_id=key, user=user, model=model
        )
        if format == "csv":
            if limit is not None or after is not None:
                raise errors.InvalidRequest("format=csv has all rows; leave out limit and after", param="format")
            return await _csv(group_by, desk.reports.all_usage(wanted, group_by, zone=asked.zone))
        page = await desk.reports.usage(wanted, group_by, zone=asked.zone, after=after, max_rows=limit or 100)
        return UsageReport(
            window=asked.body(),
            results=[group(row, group_by) for row in page.rows],
            totals=totals(page.totals),
            next=page.next,
        )


def _add_logs(routes: APIRouter, desk: _Desk) -> None:
    @routes.get("/logs", summary="Single requests, newest first", responses=_FAILURES)
    async def logs(
        who: Admin,
        begin: From = None,
        end: To = None,
        tenant: Tenant = None,
        key: Key = None,
        user: User = None,
        model: Model = None,
        route: Route = None,
        outcome: OfOutcome = None,
        limit: Annotated[int, Query(ge=1, le=200, description="Entries per page.")] = 50,
        after: After = None,
    ) -> UsageLog:
        """List requests of the last 30 days unless told otherwise; there are no prompts and no answers in it."""
        asked = desk.lately(begin, end)
        wanted = Filter(
            since=asked.since,
            until=asked.until,
            tenant=desk.visible(who, tenant),
            key_id=key,
            user=user,
            model=model,
            route=route,
            outcome=outcome,
        )
        page = await desk.reports.entries(wanted, after=after, max_rows=limit)
        results = [_entry(structs.asdict(one)) for one in page.entries]
        return UsageLog(window=asked.body(), results=results, next=page.next)


def _add_stats(routes: APIRouter, desk: _Desk) -> None:
    @routes.get("/stats", summary="Totals and latency by model", responses=_FAILURES)
    async def stats(who: Admin, begin: From = None, end: To = None, tenant: Tenant = None) -> UsageStatistics:
        """Tell what each model did in the last 30 days unless told otherwise."""
        asked = desk.lately(begin, end)
        whole, models = await desk.reports.statistics(
            Filter(since=asked.since, until=asked.until, tenant=desk.visible(who, tenant))
        )
        return UsageStatistics(
            window=asked.body(),
            totals=_statistics(None, whole),
            models=[_statistics(name, one) for name, one in models.items()],
        )


def totals(sums: Sums) -> Totals:
    """Show sums."""
    return Totals(**asdict(sums), total_tokens=sums.prompt_tokens + sums.completion_tokens)


def group(row: UsageRow, dimensions: Sequence[Dimension]) -> Group:
    """Show one group."""
    named = {usage_csv.COLUMN_OF[name]: value for name, value in zip(dimensions, row.group, strict=True)}
    return Group.model_validate({**totals(row.sums).model_dump(), **named})


async def _csv(dimensions: list[Dimension], pages: AsyncIterator[list[UsageRow]]) -> Response:
    first = await anext(pages)  # an error here still has a status

    async def all_pages() -> AsyncIterator[list[UsageRow]]:
        yield first
        async for page in pages:
            yield page

    return StreamingResponse(
        usage_csv.lines(dimensions, all_pages()),
        media_type="text/csv; charset=utf-8; header=present",
        headers={"Content-Disposition": 'attachment; filename="usage.csv"'},
    )


def _entry(fields: dict[str, Any]) -> LogEntry:
    fields["user_id"] = fields.pop("user")
    return LogEntry(**fields)


def _statistics(model: str | None, one: Statistics) -> ModelStatistics:
    requests = max(1, one.sums.requests)
    return ModelStatistics(
        **totals(one.sums).model_dump(),
        model=model,
        cached_share=one.sums.cached_requests / requests,
        mean_s=one.sums.seconds / requests,
        p50_s=one.latency.p50_s,
        p95_s=one.latency.p95_s,
    )
