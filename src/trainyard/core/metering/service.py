"""Letting work in by the limits, and charging what it used."""

import functools
from collections.abc import Callable, Sequence

from trainyard.core import errors
from trainyard.core.clock import Clock
from trainyard.core.db.writer import Outcome
from trainyard.core.ledger.types import Entry
from trainyard.core.limits.base import Limiter
from trainyard.core.limits.types import Amount, Passed, Subject
from trainyard.core.metering import headers
from trainyard.core.metering.base import Done
from trainyard.core.metering.charges import MeteredCharge, Parts, Recorder, drained
from trainyard.core.metering.hits import HitCharge
from trainyard.core.metering.meters import MeterMetrics
from trainyard.core.metering.types import Job, Used
from trainyard.core.principal import Principal
from trainyard.core.telemetry import Metrics

NOTHING = Amount()


class Metering:
    """The `Meter` of a server.

    Args:
        limiter: Counts what runs and what ran.
        ledger: Keeps what was used.
        subjects: Tells the subjects of a principal with their limits, from memory: `APIKeyManager.subjects`.
        clock: For the times of entries.
        metrics: Of the server.
        window_s: Of the limiter, for headers.
    """

    def __init__(
        self,
        limiter: Limiter,
        ledger: Recorder,
        subjects: Callable[[Principal], Sequence[Subject]],
        clock: Clock,
        metrics: Metrics,
        *,
        window_s: float,
    ) -> None:
        self._subjects = subjects
        self._parts = Parts(limiter, ledger, clock, MeterMetrics(metrics), window_s)

    async def open(self, principal: Principal, job: Job) -> MeteredCharge:
        """Reserve a request with the most that it can use; a cached one takes no tokens.

        Raises:
            errors.LimitReached, errors.QuotaExhausted, errors.InvalidRequest, errors.Unavailable: As
                `Limiter.reserve`; the first has `window_s` in its data too.
        """
        parts = self._parts
        began_s = parts.clock.monotonic()
        amount = NOTHING
        if not job.cached:
            most = job.max_completion_tokens
            amount = Amount(job.prompt_tokens + most, job.prices.cost_micros(job.prompt_tokens, most))
        try:
            reservation = await parts.limiter.reserve(self._subjects(principal), amount)
        except errors.TrainyardError as error:
            parts.metrics.refuse(error)
            self._explain(error)
            raise
        parts.metrics.admit(job.route)
        return MeteredCharge(parts, principal, job, reservation, began_s if job.began_s is None else job.began_s)

    async def hit(self, principal: Principal, job: Job) -> HitCharge:
        """Count a request whose answer is there already; one step of the limiter in place of two.

        Raises:
            errors.TrainyardError: As `open`.
        """
        parts = self._parts
        began_s = parts.clock.monotonic()
        try:
            passed = await parts.limiter.count(self._subjects(principal))
        except errors.TrainyardError as error:
            parts.metrics.refuse(error)
            self._explain(error)
            raise
        parts.metrics.pass_by(job.route)
        return HitCharge(parts, principal, job, passed, began_s if job.began_s is None else job.began_s)

    def hit_at_once(self, principal: Principal, job: Job, used: Used, done: Done) -> bytes | None:
        """Count a request whose answer is there already, and begin to write it down; see `Meter.hit_at_once`."""
        parts = self._parts
        passed = parts.limiter.count_at_once(self._subjects(principal))
        if passed is None:
            return None
        began_s = parts.clock.monotonic() if job.began_s is None else job.began_s
        entry = parts.entry(principal, job, used, began_s)
        try:
            parts.ledger.submit_then(entry, functools.partial(self._after_hit, passed, entry, done))
        except errors.TrainyardError:
            parts.finish(parts.limiter.uncount(passed))
            return None
        parts.metrics.pass_by(job.route)
        return headers.of_passed(passed, parts.window_s)

    async def aclose(self) -> None:
        """Wait for charges whose callers have left; the ledger's writer has to close after this."""
        await drained(self._parts.tasks)

    def _after_hit(self, passed: Passed, entry: Entry, done: Done, outcome: Outcome) -> None:
        if isinstance(outcome, bool):
            self._parts.metrics.settle_hit(entry)
            done(None)
        else:
            self._parts.metrics.end_hit("lost")
            self._parts.finish(self._parts.limiter.uncount(passed))
            done(outcome)

    def _explain(self, error: errors.TrainyardError) -> None:
        """Add what the headers of the answer need."""
        if isinstance(error, errors.LimitReached):
            error.data.setdefault(headers.WINDOW_S, self._parts.window_s)
