"""Charging callers for what runs for them, however their requests end."""

import asyncio

import structlog

from trainyard.core import errors
from trainyard.core.ids import hex_id
from trainyard.core.ledger.types import Outcome, Work
from trainyard.core.metering.base import Charge
from trainyard.core.metering.types import Job, Used

_log = structlog.get_logger("sandbox")


def job(route: str, model: str, request_id: str | None) -> Job:
    """Describe a request to the sandbox: it takes no tokens.

    Args:
        route: Template of its path.
        model: `sandbox/<language>`, or `sandbox/state` for what is done with variables.
        request_id: Of the request; None = it is no request over HTTP.
    """
    return Job(
        route=route,
        model=model,
        request_id=request_id or hex_id("req_"),
        prompt_tokens=0,
        max_completion_tokens=0,
    )


def used(work: Work, outcome: Outcome = "done") -> Used:
    """Make a settlement of work alone."""
    return Used(prompt_tokens=0, completion_tokens=0, outcome=outcome, work=work)


async def charge_left(charge: Charge, error: BaseException, work: Work) -> None:
    """Charge what has run of a request that ends without an answer; `error` is what its caller hears of.

    Where nothing has run, nothing is charged.
    """
    if not work.cpu_s:
        return
    try:
        await charge.settle(used(work, "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"))
    except errors.Unavailable as fault:
        _log.error("work_not_charged", reason=fault.message, cpu_s=work.cpu_s)
