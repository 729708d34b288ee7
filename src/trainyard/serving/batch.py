"""Several prompts that were let in as one request: one charge, one answer per prompt."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from trainyard.core import errors
from trainyard.core.clock import Clock
from trainyard.core.db.writer import Write
from trainyard.core.ledger.types import Outcome
from trainyard.core.metering.base import Charge
from trainyard.core.metering.types import Used
from trainyard.serving.cache.entry import Entry
from trainyard.serving.call import Call
from trainyard.serving.drawing import Plan
from trainyard.serving.flights import Flight
from trainyard.serving.meters import GenerationMetrics
from trainyard.serving.streams import Broadcast, Listener
from trainyard.serving.types import Piece, Target
from trainyard.serving.types.tally import Usage
from trainyard.serving.work import Keeper, Origin

_log = structlog.get_logger("serving")


class Part:
    """One prompt; prompts that are equal share it.

    Attributes:
        origin: Where its answer comes from.
        plan: Work of its own; None when it needs none.
    """

    def __init__(
        self,
        origin: Origin,
        *,
        entry: Entry | None = None,
        broadcast: Broadcast | None = None,
        plan: Plan | None = None,
        keep: Keeper | None = None,
        flight: Flight | None = None,
    ) -> None:
        self.origin: Origin = origin
        self.plan = plan
        self._entry = entry
        self._keep = keep
        self._flight = flight
        self._has_begun = False
        self._broadcast = Broadcast(plan.tally()) if plan is not None else broadcast
        self._listener: Listener | None = self._broadcast.listen() if self._broadcast is not None else None

    @property
    def is_running(self) -> bool:
        """Whether work of its own goes on."""
        return self.plan is not None and self._broadcast is not None and not self._broadcast.is_over

    @property
    def usage(self) -> Usage:
        """What its answer came to, or has so far."""
        if self._entry is not None:
            return self._entry.usage
        assert self._broadcast is not None, "kept, or worked on"
        made = self._broadcast.tally.usage()
        if self.plan is None:
            return Usage(made.prompt_tokens, made.completion_tokens, made.prompt_tokens)
        if not self._broadcast.tally.has_drawn:
            return Usage(made.prompt_tokens, self.plan.drawn) if self._has_begun else Usage(0, 0)
        return made

    @property
    def model(self) -> str | None:
        """Who answered in place of the model that was asked for, if anybody."""
        return None if self._broadcast is None else self._broadcast.tally.model

    def begin(self, gate: asyncio.Semaphore, landed: Callable[[], Awaitable[None]]) -> None:
        """Begin work of its own, if any, as soon as the gate lets it."""
        plan, broadcast = self.plan, self._broadcast
        if plan is None or broadcast is None:
            return

        async def work(to: Broadcast) -> None:
            async with gate:
                self._has_begun = True
                await plan.send_whole(to)

        async def land(done: Broadcast) -> None:
            try:
                if self._keep is not None and not done.has_failed:
                    self._keep(done.pieces(), done.tally.usage())
            finally:
                if self._flight is not None:
                    self._flight.land()
                await landed()

        broadcast.start(work, land)
        if self._flight is not None:
            self._flight.take_off(broadcast)

    async def piece(self) -> Piece:
        """Wait for the answer.

        Raises:
            errors.TrainyardError: As `Plan.collect`.
        """
        if self._entry is not None:
            return self._entry.choices[0]
        assert self._listener is not None, "kept, or listened to"
        return (await self._listener.pieces())[0]

    def give_up(self) -> None:
        """It was not let in."""
        if self._flight is not None:
            self._flight.land()
        self.leave()

    def leave(self) -> None:
        """Nobody of this batch waits for it any more."""
        if self._listener is not None:
            self._listener.leave()

    async def stopped(self) -> None:
        """Wait for the end of work that nobody listens to."""
        if self._broadcast is not None and not self._broadcast.is_heard:
            await self._broadcast.ended()


@dataclass(frozen=True, slots=True)
class Answered:
    """What became of one prompt.

    Attributes:
        piece: The whole answer; None when it failed.
        is_cached: Whether nothing was computed for this prompt.
    """

    piece: Piece | None
    usage: Usage
    is_cached: bool
    error: errors.TrainyardError | None = None


class Batch:
    """A batch with its charge; exactly one of `settle`, `fail` and `leave` ends it.

    Attributes:
        target: The model.
    """

    def __init__(
        self,
        target: Target,
        call: Call,
        charge: Charge,
        clock: Clock,
        metrics: GenerationMetrics,
        order: Sequence[Part],
    ) -> None:
        """Take over a charge.

        Args:
            target: The model.
            call: Its circumstances.
            charge: What it was let in with.
            clock: For durations.
            metrics: Where it is counted.
            order: One per prompt; equal prompts have the same.
        """
        self.target = target
        self._call, self._charge, self._clock, self._metrics = call, charge, clock, metrics
        self._order = order
        self._parts = list(dict.fromkeys(order))
        self._began_s = clock.monotonic()
        self._answers: list[Answered] = []
        self._has_left = self._is_closed = False

    @property
    def lines(self) -> bytes:
        """Of the answer: where the caller stands with his limits."""
        return self._charge.lines

    @property
    def model(self) -> str:
        """Name of the model that answered; of several that of the first prompt's."""
        return self._order[0].model or self.target.name

    async def collect(self) -> list[Answered]:
        """Wait for all answers.

        Raises:
            errors.TrainyardError: No prompt was answered; what happened to the first.
        """
        try:
            results = {part: await self._result(part) for part in self._parts}
        except BaseException:
            await self.leave()
            raise
        seen: set[Part] = set()
        for part in self._order:
            self._answers.append(_answered(part, results[part], is_again=part in seen))
            seen.add(part)
        first = self._answers[0].error
        if first is not None and all(one.error is not None for one in self._answers):
            await self.fail()
            raise first
        return self._answers

    async def settle(self, *also: Write) -> None:
        """Pay for all answers together; see `Work.settle`."""
        free = [one.usage for one in self._answers if one.is_cached]
        used = [one.usage for one in self._answers]
        await self._settle("done", used, free, *also)

    async def fail(self) -> None:
        """End it without an answer: nobody pays."""
        self._release()
        if not self._is_closed:
            self._is_closed = True
            await self._charge.refund()
            self._count("failed", Usage(0, 0))

    async def leave(self) -> None:
        """End it, the caller has left; what was drawn for it is paid for, when those have it who still wait."""
        self._has_left = True
        self._release()
        try:
            for part in self._parts:
                await part.stopped()
        finally:  # also when whoever waits here is cancelled once more
            await self.landed()

    async def landed(self) -> None:
        """Take note that work of its own is over."""
        if self._has_left and not any(part.is_running for part in self._parts):
            try:
                await self._settle("cancelled", [part.usage for part in self._parts if part.plan is not None], [])
            except errors.Unavailable as error:  # there is nobody to be told
                _log.warning("not_charged", request_id=self._call.request_id, reason=error.message)

    async def _result(self, part: Part) -> Piece | errors.TrainyardError:
        try:
            return await part.piece()
        except errors.TrainyardError as error:
            return error

    def _release(self) -> None:
        for part in self._parts:
            part.leave()

    async def _settle(self, outcome: Outcome, used: Sequence[Usage], free: Sequence[Usage], *also: Write) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._release()
        total, spared = _sum(used), _sum(free)
        try:
            await self._charge.settle(
                Used(
                    prompt_tokens=total.prompt_tokens,
                    completion_tokens=total.completion_tokens,
                    cached_tokens=total.cached_tokens,
                    outcome=outcome,
                    model=self.model,
                    free_prompt_tokens=spared.prompt_tokens,
                    free_completion_tokens=spared.completion_tokens,
                ),
                *also,
            )
        except errors.TrainyardError:
            await self._charge.refund()
            self._count("failed", total)
            raise
        computed = Usage(total.prompt_tokens - spared.prompt_tokens, total.completion_tokens - spared.completion_tokens)
        self._count(outcome, computed)

    def _count(self, outcome: Outcome, computed: Usage) -> None:
        took_s = self._clock.monotonic() - self._began_s
        self._metrics.of(self.target.base_model).end(outcome, took_s, computed)
        self._call.note(model=self.model, outcome=outcome, prompts=len(self._order))


def _answered(part: Part, result: Piece | errors.TrainyardError, *, is_again: bool) -> Answered:
    if isinstance(result, errors.TrainyardError):
        return Answered(None, Usage(0, 0), False, result)
    usage = part.usage
    is_cached = is_again or part.plan is None
    if is_cached:
        usage = Usage(usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens)
    return Answered(result, usage, is_cached)


def _sum(several: Sequence[Usage]) -> Usage:
    return Usage(
        sum([one.prompt_tokens for one in several]),
        sum([one.completion_tokens for one in several]),
        sum([one.cached_tokens for one in several]),
    )
