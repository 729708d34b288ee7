"""Letting several prompts in as one request, each answered from where it can be."""

import asyncio
from collections.abc import Sequence

from msgspec import structs

from trainyard.serving.batch import Batch, Part
from trainyard.serving.service.parts import Parts, Request
from trainyard.serving.types import Ask, fields


class Batching:
    """Lets batches in.

    Prompts that the cache has, that an equal request works on, or that come twice take no tokens; all others are
    reserved together before any work begins, so that a batch is let in as a whole or not at all.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def open(self, request: Request, asks: Sequence[Ask]) -> Batch:
        """Let a batch in.

        Args:
            request: Its circumstances; its own `ask` is the first one.
            asks: One prompt each.

        Raises:
            errors.TrainyardError: As `TextBackend.prepare`, with `param` naming the prompt, and `Meter.open`.
        """
        made: dict[bytes | int, Part] = {}
        order: list[Part] = []
        try:
            for at, ask in enumerate(asks):
                one = structs.replace(request, ask=ask)
                key = one.key if self._is_cacheable(one) else None
                known = made.get(at if key is None else key)
                if known is None:
                    known = made[at if key is None else key] = await self._part(one, key)
                order.append(known)
            return await self._open(request, list(made.values()), order)
        except BaseException:
            for part in made.values():
                part.give_up()
            raise

    async def _open(self, request: Request, parts: Sequence[Part], order: Sequence[Part]) -> Batch:
        plans = [part.plan for part in parts if part.plan is not None]
        job = request.job(
            sum([plan.prompt_tokens for plan in plans]),
            sum([plan.max_completion_tokens for plan in plans]),
            is_cached=not plans,
        )
        charge = await self._parts.meter.open(request.call.principal, job)
        batch = Batch(request.target, request.call, charge, self._parts.clock, self._parts.metrics, order)
        gate = asyncio.Semaphore(fields.MAX_STREAMS)
        for part in parts:
            part.begin(gate, batch.landed)
            self._count(part)
        return batch

    def _is_cacheable(self, request: Request) -> bool:
        return self._parts.answers is not None and request.call.policy.allows(request.ask)

    async def _part(self, request: Request, key: bytes | None) -> Part:
        answers, flights = self._parts.answers, self._parts.flights
        if key is None or answers is None:
            return Part("bypass", plan=await self._parts.plan(request))
        keep = self._parts.keeper(request, key)
        if not request.call.policy.reads:
            return Part("miss", plan=await self._parts.plan(request), keep=keep)
        found = answers.recent(key, request.call.policy.max_age_s)
        if found is not None:
            return Part("hit", entry=found)
        running = flights.get(key)
        if running is not None and running.broadcast is not None and not running.broadcast.is_over:
            return Part("joined", broadcast=running.broadcast)
        flight = flights.begin(key) if running is None else None  # one that is not let in yet is not waited for
        try:
            found = await answers.find(key, request.call.policy.max_age_s)
            if found is None:
                return Part("miss", plan=await self._parts.plan(request), keep=keep, flight=flight)
        except BaseException as error:
            if flight is not None:
                flight.fail(error)
            raise
        if flight is not None:
            flight.land(found)
        return Part("hit", entry=found)

    def _count(self, part: Part) -> None:
        if self._parts.answers is not None:
            self._parts.answers.metrics.requests.of(part.origin).inc()
