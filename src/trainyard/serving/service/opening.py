"""Letting a request in: from the cache, beside an equal one that runs, or with work of its own."""

from trainyard.core.metering.base import Charge
from trainyard.serving.cache.answers import Answers
from trainyard.serving.cache.entry import Entry
from trainyard.serving.drawing import Plan
from trainyard.serving.flights import Flight
from trainyard.serving.service.parts import Parts, Request
from trainyard.serving.streams import Broadcast, copied
from trainyard.serving.work import Keeper, Origin, Work


class Opening:
    """Lets requests in, one by one."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def open(self, request: Request) -> Work:
        """Let a request in.

        Raises:
            errors.TrainyardError: As `TextBackend.prepare` and `Meter.open`.
        """
        parts, policy = self._parts, request.call.policy
        if parts.answers is None or not policy.allows(request.ask):
            return await self._alone(request, "bypass", None)
        key = request.key
        if not policy.reads:
            return await self._alone(request, "miss", parts.keeper(request, key))
        while True:
            found = parts.answers.recent(key, policy.max_age_s)
            if found is not None:
                return await self.kept(request, found, key)
            flight = parts.flights.get(key)
            if flight is None:
                return await self._lead(request, parts.answers, parts.flights.begin(key), key)
            work = await self._follow(request, flight, key)
            if work is not None:
                return work

    async def _alone(self, request: Request, origin: Origin, on_made: Keeper | None) -> Work:
        plan = await self._parts.plan(request)
        return self._work(request, origin, await self._charge(request, plan), plan=plan, on_made=on_made)

    async def kept(self, request: Request, entry: Entry, key: bytes) -> Work:
        """Let a request in whose answer is there; raises as `Meter.hit`."""
        job = request.job(entry.prompt_tokens, 0, is_cached=True)
        charge = await self._parts.meter.hit(request.call.principal, job)
        return self._work(request, "hit", charge, entry=entry, key=key)

    async def _lead(self, request: Request, answers: Answers, flight: Flight, key: bytes) -> Work:
        try:
            found = await answers.find(key, request.call.policy.max_age_s)
            plan = None if found is not None else await self._parts.plan(request)
        except BaseException as error:
            flight.fail(error)
            raise
        if plan is None:
            assert found is not None, "found, or planned"
            flight.land(found)
            return await self.kept(request, found, key)
        try:
            charge = await self._charge(request, plan)
        except BaseException:
            flight.land()  # his limits are not the others'
            raise
        return self._fly(request, flight, key, plan, charge)

    def _fly(self, request: Request, flight: Flight, key: bytes, plan: Plan, charge: Charge) -> Work:
        broadcast = Broadcast(plan.tally())
        work = self._work(request, "miss", charge, plan=plan, broadcast=broadcast)
        keep = self._parts.keeper(request, key)

        async def land(done: Broadcast) -> None:
            try:
                if not done.has_failed:
                    keep(done.pieces(), done.tally.usage())
            finally:
                flight.land()
                await work.landed()

        broadcast.start(plan.send if request.call.is_stream else plan.send_whole, land)
        flight.take_off(broadcast)
        return work

    async def _follow(self, request: Request, flight: Flight, key: bytes) -> Work | None:
        """Join a flight; None when it was given up, or is over, and has to be looked for again."""
        await flight.decided()
        if flight.error is not None:
            raise copied(flight.error)
        if flight.entry is not None:
            is_fresh = self._parts.is_fresh(flight.entry, request.call.policy)
            return await self.kept(request, flight.entry, key) if is_fresh else None
        broadcast = flight.broadcast
        if broadcast is None or broadcast.is_over:
            return None
        listener = broadcast.listen()  # so that it does not end while the caller is let in
        try:
            job = request.job(broadcast.tally.usage().prompt_tokens, 0, is_cached=True)
            charge = await self._parts.meter.open(request.call.principal, job)
            return self._work(request, "joined", charge, broadcast=broadcast)
        finally:
            listener.leave()

    async def _charge(self, request: Request, plan: Plan) -> Charge:
        job = request.job(plan.prompt_tokens, plan.max_completion_tokens)
        return await self._parts.meter.open(request.call.principal, job)

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
        key: bytes | None = None,
    ) -> Work:
        parts = self._parts
        if parts.answers is not None:
            parts.answers.metrics.requests.of(origin).inc()
        return Work(
            request.target,
            request.ask,
            origin,
            request.call,
            charge,
            parts.clock,
            parts.metrics,
            request.began_s,
            plan=plan,
            broadcast=broadcast,
            entry=entry,
            on_made=on_made,
            key=key,
        )
