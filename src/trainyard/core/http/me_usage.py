"""`/v1/me/usage`: what the key that asks may use, and what it has used. Asking is free."""

from typing import Annotated, cast

from fastapi import APIRouter, Depends, Request, Security
from fastapi.security import APIKeyHeader, HTTPBearer

from trainyard.core import errors
from trainyard.core.clock import Clock
from trainyard.core.http import error_bodies
from trainyard.core.http.admin_usage import group, totals
from trainyard.core.http.usage_bodies import OwnLimits, OwnQuota, OwnUsage, QuotaBar, Standing, Window
from trainyard.core.keys import APIKeyManager
from trainyard.core.ledger.report_types import Filter
from trainyard.core.ledger.reports import MAX_PAGE, Reports
from trainyard.core.limits import periods
from trainyard.core.limits.base import Spent
from trainyard.core.limits.types import Amount, Subject
from trainyard.core.principal import Principal

_BEARER = HTTPBearer(auto_error=False, description="`Authorization: Bearer <key>`")
_HEADER = APIKeyHeader(name="X-API-Key", auto_error=False)


async def _anyone(
    request: Request,
    _bearer_shown_in_docs: Annotated[object, Security(_BEARER)],
    _header_shown_in_docs: Annotated[object, Security(_HEADER)],
) -> Principal:
    """Tell who asks, whatever the scopes; the middleware has let only keys in."""
    return cast(Principal, request.state.principal)


_FAILURES = error_bodies.responses("native", errors.Unavailable)

Anyone = Annotated[Principal, Depends(_anyone)]


def router(keys: APIKeyManager, reports: Reports, spent: Spent, clock: Clock, window_s: float) -> APIRouter:
    """Build the route.

    Args:
        keys: Tells the limits of a key.
        reports: Sums of what was used.
        spent: What counts against a quota: `Ledger.spent`.
        clock: Tells what now is.
        window_s: Length of the limiter's window.
    """
    routes = APIRouter(prefix="/v1/me", tags=["usage"])

    async def standing(subject: Subject, period: periods.Period) -> Standing:
        kind, _, name = subject.name.partition(":")
        quota, limits = subject.quota, subject.limits
        used = Amount()
        if quota.tokens is not None or quota.cost_micros is not None:
            used = await spent(subject.name, period.since, period.until)
        return Standing(
            scope="key" if kind == "key" else "tenant",
            name=name,
            limits=OwnLimits(
                requests=limits.requests, tokens=limits.tokens, concurrency=limits.concurrency, window_s=window_s
            ),
            quota=OwnQuota(
                tokens=_bar(quota.tokens, used.tokens),
                cost_micros=_bar(quota.cost_micros, used.cost_micros),
                since=period.since,
                resets_at=period.until,
                time_zone=quota.time_zone,
            ),
        )

    @routes.get(
        "/usage", summary="Your limits and usage", responses=error_bodies.responses("native", errors.Unavailable)
    )
    async def usage(who: Anyone) -> OwnUsage:
        """Show the limits of the key and its tenant, and what the key has used since its quota began anew."""
        now, subjects = clock.now(), keys.subjects(who)
        standings = [(subject, periods.period_at(subject.quota, now)) for subject in subjects]
        key, period = standings[0]
        zone = periods.zone(key.quota.time_zone)
        account = key.name.partition(":")[2]
        wanted = Filter(since=period.since, until=period.until, account=account)
        by_model = await reports.usage(wanted, ["model"], zone=zone, max_rows=MAX_PAGE)
        by_day = await reports.usage(wanted, ["day"], zone=zone, max_rows=MAX_PAGE)
        return OwnUsage(
            key_id=who.key_id,
            tenant=who.tenant,
            user_id=who.user,
            standings=[await standing(*one) for one in standings],
            period=Window(since=period.since, until=period.until, time_zone=zone.key),
            totals=totals(by_day.totals),
            by_model=[group(row, ["model"]) for row in by_model.rows],
            by_day=[group(row, ["day"]) for row in by_day.rows],
        )

    return routes


def _bar(limit: int | None, used: int) -> QuotaBar | None:
    return None if limit is None else QuotaBar(limit=limit, used=used, left=max(0, limit - used))
