"""Letting in and paying for a request that is equal to one that was a hit, without making anything of it anew."""

from collections.abc import Callable

from trainyard.core import errors
from trainyard.core.metering.base import Charge
from trainyard.core.metering.types import Job, Used
from trainyard.core.principal import Principal
from trainyard.serving.hits import Hit
from trainyard.serving.repeats import Repeats
from trainyard.serving.service.models import Models
from trainyard.serving.service.parts import Parts
from trainyard.serving.work import Work


class Repeating:
    """What a service does for repeats.

    Attributes:
        known: Hits as they were written.
    """

    def __init__(self, parts: Parts, models: Models) -> None:
        self.known = Repeats()
        self._parts = parts
        self._models = models

    def hit(self, work: Work) -> Hit | None:
        """Say what a hit was made of; None for all other work."""
        answers = self._parts.answers
        if answers is None or work.key is None or work.entry is None:
            return None
        raw = answers.peek(work.key)
        return None if raw is None else Hit(work.ask, work.target, work.key, raw, work.entry)

    def holds(self, principal: Principal, hit: Hit) -> bool:
        """Whether the request would be the same hit for this caller now; says no when it is not sure."""
        answers = self._parts.answers
        if answers is None or not self._models.still(principal, hit.ask.model, hit.target):
            return False
        return answers.peek(hit.key) is hit.raw

    async def let_in(self, principal: Principal, route: str, request_id: str, hit: Hit) -> Charge:
        """Let a request in; whoever calls this has to settle it.

        Raises:
            errors.TrainyardError: As `Meter.hit`.
        """
        target = hit.target
        job = Job(
            route=route,
            model=target.name,
            request_id=request_id,
            prompt_tokens=hit.entry.prompt_tokens,
            max_completion_tokens=0,
            prices=target.prices,
            cached=True,
        )
        charge = await self._parts.meter.hit(principal, job)
        if self._parts.answers is not None:
            self._parts.answers.metrics.hits.inc()
        return charge

    async def settle(self, charge: Charge, hit: Hit, began_s: float, note: Callable[..., None]) -> None:
        """Pay, as `Work.settle`.

        Args:
            charge: Of this request.
            hit: What it came to.
            began_s: Moment of `clock.monotonic` at which it came.
            note: Takes fields of its log line.
        """
        parts, usage, target = self._parts, hit.entry.usage, hit.target
        used = Used(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
        )
        metrics = parts.metrics.of(target.base_model)
        try:
            await charge.settle(used)
        except errors.TrainyardError:
            await charge.refund()
            metrics.end("failed", parts.clock.monotonic() - began_s, None)
            raise
        metrics.end("done", parts.clock.monotonic() - began_s, None)
        note(
            model=target.name,
            outcome="done",
            cache="hit",
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )
        if hit.ask.end_user:
            note(end_user=hit.ask.end_user)
