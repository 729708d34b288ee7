"""Writing variables of live interpreters down, and bringing them back; never read here, only carried."""

from contextlib import suppress

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
            tenant has no room, the session is another's by now, or the box has died, is not waited for.
        """
        try:
            await self.save(live)
        except errors.TrainyardError as error:
            return not live.has_live_box or not isinstance(error, errors.Unavailable)
        return True

    async def save(self, live: LiveSession) -> None:
        """As `write`, for somebody who waits for it; raises errors.TrainyardError where it could not be written."""
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
            raise

    async def forget(self, live: LiveSession) -> None:
        """Remove the checkpoint of a session whose interpreter has nothing any more."""
        if live.state is not None:
            await self.replace(live, None)
        live.is_dirty = False

    async def restore(self, live: LiveSession, state: StateRecord) -> tuple[tuple[str, ...], tuple[Dropped, ...]]:
        """Put a checkpoint into the new box of a session; returns what came back, and what did not with its reasons."""
        assert live.box is not None
        try:
            await live.box.put("spool", "state", state.size_bytes, self._parts.blobs.open(state.sha256))
            loaded = await live.box.load()
        except (errors.NotFound, errors.InvalidRequest, errors.TooLarge, errors.Conflict) as error:
            self._parts.metrics.restores.of("failed").inc()
            _log.error("state_not_restored", session=live.id, reason=error.message)
            return (), tuple(Dropped(name=name, reason=error.message) for name in state.kept) + state.dropped
        live.variables = len(loaded.restored)
        self._parts.metrics.restores.of("partial" if loaded.dropped or state.dropped else "whole").inc()
        return tuple(loaded.restored), (*loaded.dropped, *state.dropped)

    # ------------------------------------------------------------------ inside

    async def _write_state(self, live: LiveSession) -> None:
        box = live.box
        assert box is not None
        dumped = await box.dump(self._parts.limits.state_bytes)
        known = live.state
        if not dumped.kept and not dumped.dropped:
            await self.forget(live)
        elif known is not None and known.sha256 == dumped.sha256:
            self._parts.metrics.checkpoints.of("unchanged").inc()
        else:
            await self._keep(live, box, dumped)
            self._parts.metrics.checkpoints.of("written").inc()
        live.is_dirty = False

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
