"""One request that was let in: its answers as events or as a whole, paid for when it ends."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Literal

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
from trainyard.serving.meters import GenerationMetrics
from trainyard.serving.streams import Broadcast, Event, Listener
from trainyard.serving.types import Ask, Choice, Piece, Target
from trainyard.serving.types.tally import Tally, Usage

_log = structlog.get_logger("serving")

Origin = Literal["hit", "joined", "miss", "bypass"]
"""Where an answer comes from: the cache, an equal request that ran already, or work of its own, kept or not."""

Keeper = Callable[[Sequence[Piece], Usage], None]
"""Is given finished answers, and what they came to."""

_LINES = {origin: f"x-trainyard-cache: {origin}\r\n".encode() for origin in ("hit", "joined", "miss", "bypass")}
HIT = _LINES["hit"]


class Work:
    """A request with its charge; exactly one of `settle`, `fail` and `leave` ends it.

    Attributes:
        target: The model.
        ask: The request.
        origin: Where its answer comes from.
        key: Under which the answer is kept, of a hit.
    """

    __slots__ = (
        *(
            "target",
            "ask",
            "origin",
            "key",
            "_call",
            "_charge",
            "_clock",
            "_metrics",
            "_began_s",
            "_plan",
            "_broadcast",
        ),
        *("_entry", "_listener", "_tally", "_on_made", "_is_leader", "_final", "_has_left", "_is_closed", "_has_first"),
    )

    def __init__(
        self,
        target: Target,
        ask: Ask,
        origin: Origin,
        call: Call,
        charge: Charge,
        clock: Clock,
        metrics: GenerationMetrics,
        began_s: float,
        *,
        plan: Plan | None = None,
        broadcast: Broadcast | None = None,
        entry: Entry | None = None,
        on_made: Keeper | None = None,
        key: bytes | None = None,
    ) -> None:
        """Take over a charge.

        Args:
            target: The model.
            ask: The request.
            origin: Where its answer comes from.
            call: Its circumstances.
            charge: What it was let in with.
            clock: For durations.
            metrics: Where it is counted.
            began_s: Moment of `clock.monotonic` at which it came.
            plan: Work of its own, which begins when it is asked for.
            broadcast: Work that others may listen to; its own when there is a plan too.
            entry: The answer, when it is there already.
            on_made: Is given the answers of its own work.
            key: Under which the answer is kept, of a hit.
        """
        self.target, self.ask, self.origin = target, ask, origin
        self._call, self._charge, self._clock, self._metrics, self._began_s = call, charge, clock, metrics, began_s
        self._plan, self._broadcast, self._entry, self._on_made = plan, broadcast, entry, on_made
        self.key = key
        self._is_leader = plan is not None and broadcast is not None
        self._listener: Listener | None = broadcast.listen() if broadcast is not None else None
        self._tally: Tally | None = broadcast.tally if broadcast is not None else None
        self._final: Usage | None = None if entry is None else entry.usage
        self._has_left = self._is_closed = self._has_first = False

    @property
    def entry(self) -> Entry | None:
        """The answer, of a hit."""
        return self._entry

    @property
    def is_cached(self) -> bool:
        """Whether nothing was computed for this request."""
        return self.origin in ("hit", "joined")

    @property
    def usage(self) -> Usage:
        """What was read and drawn so far."""
        if self._final is not None:
            return self._final
        if self._tally is None:
            assert self._plan is not None, "there is an answer, or work to make one"
            return Usage(self._plan.prompt_tokens, self._plan.drawn)
        made = self._tally.usage()
        if self.origin == "joined":
            return Usage(made.prompt_tokens, made.completion_tokens, made.prompt_tokens)
        if self._plan is not None and not self._tally.has_drawn:
            return Usage(made.prompt_tokens, self._plan.drawn)
        return made

    @property
    def model(self) -> str:
        """Name of the model that answers; that of a fallback from its first piece on."""
        return (self._tally.model if self._tally is not None else None) or self.target.name

    @property
    def lines(self) -> bytes:
        """Headers as `head_lines`: where the caller stands with his limits, and whether the cache had the answer."""
        return self._charge.lines + _LINES[self.origin]

    async def collect(self) -> list[Choice]:
        """Wait for all answers; what goes wrong, or the caller's leaving, ends the work here.

        Raises:
            errors.TrainyardError: As `Plan.collect`.
        """
        try:
            made = await self._collect()
        except asyncio.CancelledError:
            await self.leave()
            raise
        except BaseException:  # a fault of ours too: nobody pays for an answer that he does not get
            await self.fail()
            raise
        return [_choice(index, piece) for index, piece in enumerate(made)]

    async def take(self) -> Sequence[Event] | None:
        """Wait for what is new of the answers: none after a silence, None at the end.

        Whoever calls it ends the work, also when it raises.

        Raises:
            errors.TrainyardError: As `Plan.send`.
        """
        if self._entry is not None:
            events = [] if self._has_first else list(enumerate(self._entry.choices))
            self._has_first = True
            return events or None
        if self._listener is None:
            self._broadcast = self._begin()
        assert self._listener is not None, "streams are listened to"
        new = await self._listener.take()
        if new and not self._has_first:
            self._note_first()
        return new

    async def settle(self, *also: Write) -> None:
        """Pay for a whole answer, in one transaction with what else has to be durable before its last byte.

        Raises:
            errors.Unavailable: It could be written nowhere; nothing was charged, and the answer must not go out.
        """
        await self._settle("done", *also)

    async def fail(self, *, delivered: bool = False) -> None:
        """End work that ended by an error: nobody pays, unless a part of the answer is with the caller."""
        if delivered:
            await self._settle_quietly("failed")
        else:
            self._release()
            await self._refund("failed")

    async def leave(self) -> None:
        """End work whose caller has left: it stops when nobody else waits for it, and what was drawn is paid for."""
        if self._is_closed:
            return
        self._has_left = True
        broadcast = self._broadcast
        self._release()
        if broadcast is not None and not broadcast.is_over and (self._is_leader or self._plan is not None):
            if not broadcast.is_heard:
                await broadcast.ended()  # `landed` has been called
            elif self._is_leader:
                return  # others wait for what was begun for this caller, who pays when it lands
        await self._settle_quietly("cancelled")

    async def landed(self) -> None:
        """Take note that work is over; a caller who has left pays now, whatever became of his own wait for it."""
        if self._has_left:
            await self._settle_quietly("cancelled")

    async def _collect(self) -> Sequence[Piece]:
        if self._entry is not None:
            return self._entry.choices
        if self._listener is not None:
            made = await self._listener.pieces()
        else:
            assert self._plan is not None, "there is an answer, or work to make one"
            made = await self._plan.collect()
            tally = self._tally = self._plan.tally()
            for index, piece in enumerate(made):
                tally.add(index, piece)
            self._final = tally.usage()
            if self._on_made is not None:
                self._on_made(made, self._final)
        self._note_first()
        return made

    def _begin(self) -> Broadcast:
        assert self._plan is not None, "there is an answer, or work to make one"
        self._tally = self._plan.tally()
        broadcast = Broadcast(self._tally)
        self._listener = broadcast.listen()
        broadcast.start(self._plan.send, self._after)
        return broadcast

    async def _after(self, broadcast: Broadcast) -> None:
        try:
            if self._on_made is not None and not broadcast.has_failed:
                self._on_made(broadcast.pieces(), broadcast.tally.usage())
        finally:
            await self.landed()

    def _release(self) -> None:
        if self._listener is not None:
            self._listener.leave()

    def _note_first(self) -> None:
        self._has_first = True
        self._metrics.of(self.target.base_model).first_token(self._clock.monotonic() - self._began_s)

    async def _settle(self, outcome: Outcome, *also: Write) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        self._release()
        usage = self.usage
        used = Used(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            cached_tokens=usage.cached_tokens,
            outcome=outcome,
            model=self.model,
        )
        try:
            await self._charge.settle(used, *also)
        except errors.TrainyardError:
            await self._charge.refund()
            self._count("failed", usage)
            raise
        self._count(outcome, usage)

    async def _settle_quietly(self, outcome: Outcome) -> None:
        """Pay for what nobody waits for any more; a ledger that is away has nobody to be told to."""
        try:
            await self._settle(outcome)
        except errors.Unavailable as error:
            _log.warning("not_charged", outcome=outcome, request_id=self._call.request_id, reason=error.message)

    async def _refund(self, outcome: Outcome) -> None:
        if not self._is_closed:
            self._is_closed = True
            usage = self.usage
            await self._charge.refund()
            self._count(outcome, usage)

    def _count(self, outcome: Outcome, usage: Usage) -> None:
        took_s = self._clock.monotonic() - self._began_s
        self._metrics.of(self.target.base_model).end(outcome, took_s, None if self.is_cached else usage)
        note = self._call.note
        note(
            model=self.model,
            outcome=outcome,
            cache=self.origin,
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
        )
        if self.ask.end_user:
            note(end_user=self.ask.end_user)


def _choice(index: int, piece: Piece) -> Choice:
    assert piece.finish_reason is not None, "a finished answer says why"
    return Choice(index, piece, piece.finish_reason)
