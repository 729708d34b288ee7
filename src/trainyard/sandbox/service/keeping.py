"""What goes on in the background: leases, checkpoints, sessions that idle or take too much memory."""

import asyncio

import structlog

from trainyard.core import errors
from trainyard.sandbox.service.boxes import Boxes
from trainyard.sandbox.service.checkpoints import Checkpoints
from trainyard.sandbox.service.holding import LEASE_S, MARGIN_S, Holding
from trainyard.sandbox.service.live import LiveSession
from trainyard.sandbox.service.parts import Parts
from trainyard.sandbox.store import Hold
from trainyard.sandbox.store.records import Became, Wanted

_log = structlog.get_logger("sandbox")

_TICK_S = 0.25
"""How soon another process gets a session that it wants, and an interrupt through another process arrives."""

_RENEW_S = 2.5
_MEASURE_S = 1.0
"""Between two looks at the memory of one session; each costs its runner as much as a short run."""
_AGAIN_S = 2.0
"""After a checkpoint that could not be written since database or blobs were away."""

_CHECKPOINTS_AT_ONCE = 2
"""Cores are for runs."""


class Keeping:
    """Tends the live sessions of this process."""

    def __init__(self, parts: Parts, holding: Holding, boxes: Boxes, checkpoints: Checkpoints) -> None:
        self._parts = parts
        self._holding = holding
        self._boxes = boxes
        self._checkpoints = checkpoints
        self._turn = asyncio.Semaphore(_CHECKPOINTS_AT_ONCE)
        self._timers: dict[LiveSession, asyncio.TimerHandle] = {}
        self._looks: dict[LiveSession, asyncio.TimerHandle] = {}
        self._asked: set[tuple[str, Wanted]] = set()
        self._renew_at_s = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self, drain_s: float) -> None:
        """End; every session is written down as far as there is time, and let go of."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        for timers in (self._timers, self._looks):
            for timer in timers.values():
                timer.cancel()
            timers.clear()
        try:
            async with asyncio.timeout(drain_s):
                ends = (self._end(live, "shutdown") for live in list(self._holding.sessions.values()))
                for fault in await asyncio.gather(*ends, return_exceptions=True):
                    if fault is not None:  # one session keeps no other from its checkpoint
                        _log.error("session_not_ended", exc_info=fault)
        except TimeoutError:
            _log.error("checkpoints_unfinished", sessions=len(self._boxes.with_boxes()))
        for live in self._boxes.with_boxes():
            self._boxes.abandon(live)

    def left(self, live: LiveSession) -> None:
        """Look after a session in which code has run."""
        if live.box is None:
            return
        if live.is_dirty or live.pending:
            self._arm(live, self._parts.settings.checkpoint_s)
        if live not in self._looks:
            wait_s = max(0.0, live.measured_s + _MEASURE_S - self._parts.clock.monotonic())
            self._looks[live] = asyncio.get_running_loop().call_later(wait_s, self._look, live)

    # ------------------------------------------------------------------ checkpoints

    def _arm(self, live: LiveSession, wait_s: float) -> None:
        if live not in self._timers:
            self._timers[live] = asyncio.get_running_loop().call_later(wait_s, self._fire, live)

    def _fire(self, live: LiveSession) -> None:
        self._timers.pop(live, None)
        self._parts.finish(self._checkpoint(live))

    async def _checkpoint(self, live: LiveSession) -> None:
        async with live.lock, self._turn:
            if not live.is_gone and live.has_live_box and not await self._checkpoints.write(live):
                self._arm(live, max(_AGAIN_S, self._parts.settings.checkpoint_s))

    # ------------------------------------------------------------------ memory and time

    def _look(self, live: LiveSession) -> None:
        del self._looks[live]
        self._parts.finish(self._measure(live))

    async def _measure(self, live: LiveSession) -> None:
        """Learn what a session takes, and put others away if all together take too much."""
        if live.box is None:
            return
        live.measured_s = self._parts.clock.monotonic()
        try:
            live.memory_bytes = (await live.box.usage()).memory_bytes
        except errors.Unavailable:  # it has ended; the next run gets a new one
            return
        most = self._parts.settings.sessions_memory_bytes
        while sum(one.memory_bytes for one in self._boxes.with_boxes() if not one.is_running) > most:
            if not await self._boxes.evict_oldest("memory"):
                return

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            try:
                await self._tick()
            except errors.Unavailable as error:  # the database is away; leases end by themselves
                _log.warning("sessions_not_tended", reason=error.message)
            except Exception:  # noqa: BLE001 - the edge of a job: leases are renewed whatever one round has met
                _log.error("sessions_not_tended", exc_info=True)

    async def _tick(self) -> None:
        parts, now_s = self._parts, self._parts.clock.monotonic()
        held = [live for live in self._holding.sessions.values() if live.hold is not None and live.is_stored]
        parts.metrics.warm.set(sum(not box.is_taken for box in parts.backend.running()))
        for live in held:
            if not live.lock.locked() and now_s - live.used_s >= parts.settings.idle_s:
                parts.finish(self._end(live, "idle"))
        if not held:
            return
        if now_s >= self._renew_at_s:
            self._renew_at_s = now_s + _RENEW_S
            holds = [live.hold for live in held if live.hold is not None]
            await parts.stored(parts.sessions.renew, holds, parts.clock.now() + LEASE_S)
            for live in held:
                live.held_until_s = max(live.held_until_s, now_s + LEASE_S - MARGIN_S)
        for session_id, (hold, wanted) in (await parts.stored(parts.sessions.held, parts.holder)).items():
            if wanted is not None and (session_id, wanted) not in self._asked:
                self._asked.add((session_id, wanted))
                parts.finish(self._answer(session_id, hold, wanted))

    async def _answer(self, session_id: str, hold: Hold, wanted: Wanted) -> None:
        """Do what another process wants."""
        live = self._holding.sessions.get(session_id)
        try:
            if live is None:
                await self._parts.stored(self._parts.sessions.release, hold)
            elif wanted == "release":
                await self._end(live, "wanted")
            elif live.box is not None and live.is_running:
                await (live.box.close() if wanted == "kill" else live.box.interrupt())
                became: Became = "killed" if wanted == "kill" else "interrupted"
                await self._parts.stored(self._parts.sessions.answered, hold, wanted, became)
            elif wanted == "kill":
                await self._end(live, "killed")
            else:
                await self._parts.stored(self._parts.sessions.answered, hold, wanted)
        except errors.Unavailable:  # asked again at the next tick
            return
        finally:
            self._asked.discard((session_id, wanted))

    async def _end(self, live: LiveSession, reason: str) -> None:
        async with live.lock:
            if live.is_gone or (reason == "idle" and self._is_used(live)):
                return
            if not await self._boxes.put_away(live, reason, is_final=reason == "killed"):
                return
            await self._boxes.let_go(live)

    def _is_used(self, live: LiveSession) -> bool:
        return self._parts.clock.monotonic() - live.used_s < self._parts.settings.idle_s
