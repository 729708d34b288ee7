"""Letting a request in: from the cache, beside an equal one that runs, or with work of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

from trainyard.core import errors
from trainyard.core.clock import Clock
from trainyard.core.metering.base import Charge, Meter
from trainyard.core.metering.types import Job
from trainyard.serving.backends.base import TextBackend
from trainyard.serving.cache import keys
from trainyard.serving.cache.answers import Answers
from trainyard.serving.cache.entry import Entry
from trainyard.serving.call import Call
from trainyard.serving.drawing import Plan
from trainyard.serving.flights import Flight, Flights
from trainyard.serving.service import revisions
from trainyard.serving.streams import Broadcast, copied
from trainyard.serving.types import Ask, Piece, Target
from trainyard.serving.types.tally import Usage
from trainyard.serving.work import GenerationMetrics, Keeper, Origin, Work


@dataclass(frozen=True, slots=True)
class Request:
    """One request whose model was found.

    Attributes:
        ends_at_s: Moment of the clock's `monotonic` at which its time is over.
    """

    call: Call
    ask: Ask
    target: Target
    began_s: float
    ends_at_s: float


class Opening:
    """Lets requests in.

    Args:
        backend: Does the work.
        meter: Reserves what a request may use.
        answers: The cache; None = nothing is kept, and equal requests know nothing of each other.
        clock: For deadlines and the age of answers.
        metrics: Where requests are counted.
    """

    def __init__(
        self, backend: TextBackend, meter: Meter, answers: Answers | None, clock: Clock, metrics: GenerationMetrics
    ) -> None:
        self._backend = backend
        self._meter = meter
        self._answers = answers
        self._clock = clock
        self._metrics = metrics
        self._flights = Flights()

    async def open(self, request: Request) -> Work:
        """Let a request in.

        Raises:
            errors.TrainyardError: As `TextBackend.prepare` and `Meter.open`.
        """
        policy, answers = request.call.policy, self._answers
        if answers is None or not policy.allows(request.ask):
            return await self._alone(request, "bypass", None)
        key = keys.key_of(request.call.principal.tenant, request.target, request.ask, request.target.revision)
        if not policy.reads:
            return await self._alone(request, "miss", self._keeper(request, key))
        while True:
            found = answers.recent(key, policy.max_age_s)
            if found is not None:
                return await self._kept(request, found)
            flight = self._flights.get(key)
            if flight is None:
                return await self._lead(request, answers, self._flights.begin(key), key)
            work = await self._follow(request, flight)
            if work is not None:
                return work

    async def _alone(self, request: Request, origin: Origin, on_made: Keeper | None) -> Work:
        plan = await self._plan(request)
        charge = await self._meter.open(request.call.principal, _job(request, plan))
        return self._work(request, origin, charge, plan=plan, on_made=on_made)

    async def _kept(self, request: Request, entry: Entry) -> Work:
        charge = await self._meter.open(request.call.principal, _free_job(request, entry.prompt_tokens))
        return self._work(request, "hit", charge, entry=entry)

    async def _lead(self, request: Request, answers: Answers, flight: Flight, key: bytes) -> Work:
        try:
            found = await answers.find(key, request.call.policy.max_age_s)
            plan = None if found is not None else await self._plan(request)
        except errors.TrainyardError as error:
            flight.land(error=error)  # it would be the same for all
            raise
        except BaseException:
            flight.land()
            raise
        if plan is None:
            assert found is not None, "found, or planned"
            flight.land(found)
            return await self._kept(request, found)
        try:
            charge = await self._meter.open(request.call.principal, _job(request, plan))
        except BaseException:
            flight.land()  # his limits are not the others'
            raise
        return self._fly(request, flight, key, plan, charge)

    def _fly(self, request: Request, flight: Flight, key: bytes, plan: Plan, charge: Charge) -> Work:
        broadcast = Broadcast(plan.tally())
        work = self._work(request, "miss", charge, plan=plan, broadcast=broadcast)
        keep = self._keeper(request, key)

        async def land(done: Broadcast) -> None:
            if not done.has_failed:
                keep(done.pieces(), done.tally.usage())
            flight.land()
            await work.landed()

        broadcast.start(plan.send if request.call.is_stream else plan.send_whole, land)
        flight.take_off(broadcast)
        return work

    async def _follow(self, request: Request, flight: Flight) -> Work | None:
        """Join a flight; None when it was given up, or is over, and has to be looked for again."""
        await flight.decided()
        if flight.error is not None:
            raise copied(flight.error)
        if flight.entry is not None:
            return await self._kept(request, flight.entry)
        broadcast = flight.broadcast
        if broadcast is None or broadcast.is_over:
            return None
        listener = broadcast.listen()  # so that it does not end while the caller is let in
        try:
            charge = await self._meter.open(
                request.call.principal, _free_job(request, broadcast.tally.usage().prompt_tokens)
            )
            return self._work(request, "joined", charge, broadcast=broadcast)
        finally:
            listener.leave()

    async def _plan(self, request: Request) -> Plan:
        prepared = await self._backend.prepare(request.target, request.ask)
        return Plan(prepared, request.ask.n, self._clock, request.ends_at_s)

    def _keeper(self, request: Request, key: bytes) -> Keeper:
        """Make what keeps the answers under the revision that made them."""

        def keep(made: Sequence[Piece], usage: Usage) -> None:
            versions = {piece.version for piece in made}
            if self._answers is None or len(versions) != 1 or any(piece.model for piece in made):
                return  # made by weights that changed meanwhile, or by another model in this one's place
            revision = revisions.answered(request.target, versions.pop())
            where = key
            tenant = request.call.principal.tenant
            if revision != request.target.revision:
                where = keys.key_of(tenant, request.target, request.ask, revision)
            entry = Entry(tuple(made), usage.prompt_tokens, usage.completion_tokens, self._clock.now())
            self._answers.keep(where, tenant, entry)

        return keep

    def _work(
        self,
        request: Request,
        origin: Origin,
        charge: Charge,
        *,
        plan: Plan | None = None,
        broadcast: Broadcast | None = None,
        entry: Entry | None = None,
        on_made: Keeper | None = None,
    ) -> Work:
        if self._answers is not None:
            self._answers.metrics.requests.of(origin).inc()
        return Work(
            request.target,
            request.ask,
            origin,
            request.call,
            charge,
            self._clock,
            self._metrics,
            request.began_s,
            plan=plan,
            broadcast=broadcast,
            entry=entry,
            on_made=on_made,
        )


def _job(request: Request, plan: Plan) -> Job:
    return Job(
        route=request.call.route,
        model=request.target.name,
        request_id=request.call.request_id,
        prompt_tokens=plan.prompt_tokens,
        max_completion_tokens=plan.max_completion_tokens,
        prices=request.target.prices,
    )


def _free_job(request: Request, prompt_tokens: int) -> Job:
    return Job(
        route=request.call.route,
        model=request.target.name,
        request_id=request.call.request_id,
        prompt_tokens=prompt_tokens,
        max_completion_tokens=0,
        prices=request.target.prices,
        cached=True,
    )
