"""Writing variables of live interpreters down, and bringing them back; never read here, only carried."""

import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from trainyard.core import disk, errors
from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.service.contents import Contents
from trainyard.sandbox.service.live import LiveSession
from trainyard.sandbox.service.outputs import Outputs
from trainyard.sandbox.service.parts import Parts
from trainyard.sandbox.store import StateRecord
from trainyard.sandbox.types.orders import Dropped, Dumped

_log = structlog.get_logger("sandbox")

_ATTEMPTS = 3
_NO_BLOBS = "blobs_unavailable"
INTERPRETER_GONE = "interpreter_gone"
NEWER = "*"
"""The name under which is told that whatever was defined after a checkpoint is not in it."""


class Checkpoints:
    """Carries states between boxes and the store."""

    def __init__(self, parts: Parts, contents: Contents, outputs: Outputs) -> None:
        self._parts = parts
        self._contents = contents
        self._outputs = outputs

    async def write(self, live: LiveSession) -> bool:
        """Make durable what the box of a session has and the database has not; its lock has to be held.

        Returns:
            False when it may be done later, so that the box had better be kept. What can never be done, since the
            tenant or the box has no room, the session is another's by now, or the box has died, is not waited for.
        """
        try:
            await self.save(live)
        except errors.TrainyardError as error:
            return not live.has_live_box or not isinstance(error, errors.Unavailable)
        return True

    async def save(self, live: LiveSession) -> None:
        """As `write`, for somebody who waits for it; raises errors.TrainyardError where it could not be written.

        Where that can never be done, the last checkpoint says from then on that it lacks what is newer.
        """
        try:
            try:
                await self._outputs.keep_pending(live)
                if live.is_dirty:
                    await self._write_state(live)
            except OSError as error:
                raise disk.full(error) or errors.Unavailable("Blobs cannot be written", code=_NO_BLOBS) from error
        except errors.TrainyardError as error:
            _log.warning("checkpoint_failed", session=live.id, code=error.code, reason=error.message)
            self._parts.metrics.checkpoints.of("failed").inc()
            live.unsaved = error.message
            await self._tell_of(live, error)
            raise
        live.unsaved = None

    async def forget(self, live: LiveSession) -> None:
        """Remove the checkpoint of a session whose interpreter has nothing any more, unless it could not be restored.

        One that could not be stays until code has defined something in its place, and is tried again at the next run.
        """
        if live.is_unrestored:
            live.is_dirty, live.is_reset = False, True
        else:
            await self.remove(live)

    async def remove(self, live: LiveSession) -> None:
        """Remove the checkpoint of a session."""
        if live.state is not None:
            await self.replace(live, None)
        live.is_dirty, live.lost = False, ()

    async def restore(self, live: LiveSession, state: StateRecord) -> tuple[tuple[str, ...], tuple[Dropped, ...]]:
        """Put a checkpoint into an interpreter; returns what came back, and what did not with its reasons.

        An interpreter that has ended over it takes its box along.
        """
        box = live.box
        assert box is not None
        live.is_unrestored = True
        try:
            async with _spooled(box):
                await box.put("spool", "state", state.size_bytes, self._parts.blobs.open(state.sha256))
                loaded = await box.load()
        except (errors.NotFound, errors.InvalidRequest, errors.TooLarge, errors.Conflict) as error:
            self._parts.metrics.restores.of("failed").inc()
            _log.error("state_not_restored", session=live.id, reason=error.message)
            if error.code == INTERPRETER_GONE:
                await self.write(live)  # what runs that failed have left
                await box.close()
            return (), tuple(Dropped(name=name, reason=error.message) for name in state.kept) + state.dropped
        live.is_unrestored, live.variables = False, len(loaded.restored)
        self._parts.metrics.restores.of("partial" if loaded.dropped or state.dropped else "whole").inc()
        return tuple(loaded.restored), (*loaded.dropped, *state.dropped)

    async def give_up(self, live: LiveSession, gone: errors.Conflict) -> None:
        """Give the box of an interpreter that has ended by itself another; files stay as they are in the box."""
        await self.lose(live, gone.message)
        if live.box is not None:
            try:
                await live.box.reset()
            except errors.TrainyardError as error:
                _log.warning("box_not_reset", session=live.id, box=live.box.id, reason=error.message)
                await live.box.close()

    async def lose(self, live: LiveSession, why: str) -> None:
        """Take note that an interpreter is another; it gets the last checkpoint, and whatever that lacks is told."""
        if live.is_dirty:
            await self.mark(live, why)
        live.is_dirty, live.is_reset, live.variables = False, True, 0

    async def mark(self, live: LiveSession, why: str) -> None:
        """Have the last checkpoint say that it lacks what is newer; the next run here where there is none."""
        reason = f"what was defined since the last checkpoint is not in it: {why}"
        live.lost = (Dropped(name=NEWER, reason=reason),)
        await self.write_lost(live)

    async def write_lost(self, live: LiveSession) -> bool:
        """Write down what `mark` has told of; false where that is to be tried again."""
        if live.state is None or not live.lost:
            return True
        others = tuple(one for one in live.state.dropped if one.name != NEWER)
        try:
            if live.state.dropped != (dropped := (*others, *live.lost)):
                await self.replace(live, dataclasses.replace(live.state, dropped=dropped))
        except errors.TrainyardError:  # the next new interpreter here tells it
            return False
        live.lost = ()
        return True

    # ------------------------------------------------------------------ inside

    async def _write_state(self, live: LiveSession) -> None:
        box = live.box
        assert box is not None
        async with _spooled(box):
            dumped = await box.dump(self._parts.limits.state_bytes)
            known = live.state
            if not dumped.kept and not dumped.dropped:
                await self.forget(live)
            elif known is not None and (known.sha256, known.dropped) == (dumped.sha256, tuple(dumped.dropped)):
                self._parts.metrics.checkpoints.of("unchanged").inc()
            else:
                await self._keep(live, box, dumped)
                live.is_unrestored, live.lost = False, ()
                self._parts.metrics.checkpoints.of("written").inc()
        live.is_dirty = False

    async def _tell_of(self, live: LiveSession, error: errors.TrainyardError) -> None:
        """Write down that variables are in no checkpoint, where that is for good; a lost interpreter ends its box."""
        is_gone = error.code == INTERPRETER_GONE
        is_for_good = is_gone or isinstance(error, (errors.TooLarge, errors.QuotaExhausted))
        if not (live.is_dirty and is_for_good):
            return
        await self.mark(live, error.message)
        if is_gone and live.box is not None:  # the next run gets another, with the last checkpoint, and is told so
            live.is_dirty = False
            await live.box.close()

    async def _keep(self, live: LiveSession, box: Box, dumped: Dumped) -> None:
        for attempt in range(_ATTEMPTS):
            blob = await self._contents.put(
                box.get("spool", "state"), self._parts.limits.state_bytes, "checkpointed", "state"
            )
            state = StateRecord(
                session_id=live.id,
                tenant=live.record.tenant,
                sha256=blob.sha256,
                size_bytes=blob.size_bytes,
                created_at=self._parts.clock.now(),
                flavor=live.flavor,
                kept=tuple(dumped.kept),
                dropped=tuple(dumped.dropped),
            )
            if attempt == _ATTEMPTS - 1:
                await self.replace(live, state)
                return
            with suppress(errors.Unavailable):
                await self.replace(live, state)
                return

    async def replace(self, live: LiveSession, state: StateRecord | None) -> None:
        """Put a state in the place of the last one."""
        parts = self._parts
        freed = await self._contents.named(
            lambda: parts.stored(
                parts.states.replace, live.id, state, max_bytes=parts.limits.stored_bytes, hold=live.hold
            ),
            [] if state is None else [state.sha256],
        )
        live.state = state
        live.revision += 1
        parts.finish(self._contents.collect_later(freed))


@asynccontextmanager
async def _spooled(box: Box) -> AsyncIterator[None]:
    """Leave no state in the spool of a box: it would count as memory of the session."""
    try:
        yield
    finally:
        with suppress(errors.TrainyardError):  # it went with its box
            await box.delete("spool", "state")
