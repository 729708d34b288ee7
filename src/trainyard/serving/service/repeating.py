"""Letting in and paying for a request that is equal to one that was a hit, without making anything of it anew."""

from trainyard.core.metering.base import Done
from trainyard.core.metering.types import Job
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
        return None if raw is None else Hit.of(work.ask, work.target, work.key, raw, work.entry, self._parts.metrics)

    def holds(self, principal: Principal, hit: Hit) -> bool:
        """Whether the request would be the same hit for this caller now; says no when it is not sure."""
        answers = self._parts.answers
        if answers is None or not self._models.still(principal, hit.ask.model, hit.target):
            return False
        return answers.peek(hit.key) is hit.raw

    def let_in(
        self, principal: Principal, route: str, request_id: str, hit: Hit, began_s: float, done: Done
    ) -> bytes | None:
        """Let a request in and pay for it; None, and nothing has happened, where that cannot be done at once.

        Args:
            principal: Who asks.
            route: Template of the path.
            request_id: Of the request.
            hit: What it comes to.
            began_s: Moment of `clock.monotonic` at which it came.
            done: As `Meter.hit_at_once`.

        Returns:
            Headers of the answer as `head_lines`, which goes out when `done` is called.
        """
        target, entry = hit.target, hit.entry
        job = Job(
            route=route,
            model=target.name,
            request_id=request_id,
            prompt_tokens=entry.prompt_tokens,
            max_completion_tokens=0,
            prices=target.prices,
            cached=True,
            began_s=began_s,
        )
        lines = self._parts.meter.hit_at_once(principal, job, hit.used, done)
        if lines is not None and self._parts.answers is not None:
            self._parts.answers.metrics.hits.inc()
        return lines

    def end(self, hit: Hit, began_s: float, *, is_paid: bool) -> None:
        """Count a request whose `done` was called."""
        hit.metrics.end("done" if is_paid else "failed", self._parts.clock.monotonic() - began_s, None)
