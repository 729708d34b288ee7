"""What letting requests in shares, one by one and in batches."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from trainyard.core.clock import Clock
from trainyard.core.metering.base import Meter
from trainyard.core.metering.types import Job
from trainyard.serving.backends.base import TextBackend
from trainyard.serving.cache import keys
from trainyard.serving.cache.answers import Answers
from trainyard.serving.cache.entry import Entry
from trainyard.serving.cache.policy import Policy
from trainyard.serving.call import Call
from trainyard.serving.drawing import Plan
from trainyard.serving.flights import Flights
from trainyard.serving.meters import GenerationMetrics
from trainyard.serving.service import revisions
from trainyard.serving.types import Ask, Piece, Target
from trainyard.serving.types.tally import Usage
from trainyard.serving.work import Keeper


class Request(Struct, frozen=True):
    """One request whose model was found.

    Attributes:
        ends_at_s: Moment of the clock's `monotonic` at which its time is over.
    """

    call: Call
    ask: Ask
    target: Target
    began_s: float
    ends_at_s: float

    @property
    def key(self) -> bytes:
        """Under which its answer is kept."""
        return keys.key_of(self.call.principal.tenant, self.target, self.ask, self.target.revision)

    def job(self, prompt_tokens: int, max_completion_tokens: int, *, is_cached: bool = False) -> Job:
        """Describe it to the meter."""
        return Job(
            route=self.call.route,
            model=self.target.name,
            request_id=self.call.request_id,
            prompt_tokens=prompt_tokens,
            max_completion_tokens=max_completion_tokens,
            prices=self.target.prices,
            cached=is_cached,
            began_s=self.began_s,
        )


@dataclass(frozen=True, slots=True)
class Parts:
    """What does the work, lets in, keeps and counts.

    Attributes:
        answers: The cache; None = nothing is kept, and equal requests know nothing of each other.
        flights: Work of now that equal requests can join.
    """

    backend: TextBackend
    meter: Meter
    answers: Answers | None
    clock: Clock
    metrics: GenerationMetrics
    flights: Flights = field(default_factory=Flights)

    async def plan(self, request: Request) -> Plan:
        """Count the prompts and see that they fit; raises as `TextBackend.prepare`."""
        prepared = await self.backend.prepare(request.target, request.ask)
        return Plan(prepared, request.ask.n, self.clock, request.ends_at_s)

    def is_fresh(self, entry: Entry, policy: Policy) -> bool:
        """Whether a kept answer is good enough for a caller."""
        return policy.max_age_s is None or self.clock.now() - entry.at <= policy.max_age_s

    def keeper(self, request: Request, key: bytes) -> Keeper:
        """Make what keeps the answers under the revision that made them."""

        def keep(made: Sequence[Piece], usage: Usage) -> None:
            versions = {piece.version for piece in made}
            if self.answers is None or len(versions) != 1 or any(piece.model for piece in made):
                return  # made by weights that changed meanwhile, or by another model in this one's place
            revision = revisions.answered(request.target, versions.pop())
            where, tenant = key, request.call.principal.tenant
            if revision != request.target.revision:
                where = keys.key_of(tenant, request.target, request.ask, revision)
            entry = Entry(tuple(made), usage.prompt_tokens, usage.completion_tokens, self.clock.now())
            self.answers.keep(where, tenant, entry)

        return keep
