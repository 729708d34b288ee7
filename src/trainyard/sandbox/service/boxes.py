"""Boxes of sessions: taken when one is needed, brought to what the session has, put away when it is not used."""

from dataclasses import replace

import structlog

from trainyard.core import errors
from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.service.checkpoints import Checkpoints
from trainyard.sandbox.service.holding import Holding
from trainyard.sandbox.service.live import LiveSession, Readied
from trainyard.sandbox.service.parts import Parts
from trainyard.sandbox.store import Role, StateRecord
from trainyard.sandbox.types.orders import Flavor

_log = structlog.get_logger("sandbox")

_RESTORES = 2
"""Tries to bring a checkpoint back, each in a new box: a machine that is busy may fail one."""


class Boxes:
    """Gives sessions their boxes."""

    def __init__(self, parts: Parts, holding: Holding, checkpoints: Checkpoints) -> None:
        self._parts = parts
        self._holding = holding
        self._checkpoints = checkpoints
        self._taking = 0

    async def ready(self, live: LiveSession, flavor: Flavor) -> Readied:
        """Give a session a box that has its variables and its files; its lock has to be held.

        Whoever calls this leaves what it gives as `live.untold` until a caller was told.

        Raises:
            errors.Unavailable: There is no box to be had (code `sandbox_unavailable`).
            errors.TooLarge: The files of the session do not fit into a workspace (code `workspace_full`).
        """
        await self.note_end(live)
        before = live.box if live.has_live_box else None
        is_new_runtime = before is None or live.is_reset or (live.is_unrestored and not live.variables)
        try:
            unplaced = await self._bring(live, flavor)
            readied = Readied(is_new_runtime, live.box is not before, unplaced=unplaced)
            if is_new_runtime and live.state is not None:
                readied = await self._restore(live, flavor, live.state, readied)
        except BaseException:
            if live.box is not before:
                self.abandon(live)
            raise
        live.is_reset = False
        if is_new_runtime and live.lost:
            more = (one for one in live.lost if one not in readied.lost)
            readied, live.lost = replace(readied, lost=(*readied.lost, *more)), ()
        if live.untold is not None:
            readied, live.untold = readied.after(live.untold), None
        return readied

    def end(self, live: LiveSession, why: str) -> None:
        """End the box of a session; what no checkpoint has of it is told by the next run."""
        if live.is_dirty:
            live.taken_along = why
        self.abandon(live)

    def abandon(self, live: LiveSession) -> None:
        """End the box of a session, with what no checkpoint has of it, and tell nobody."""
        box = live.leave_box()
        if box is not None:
            self._close(box)

    async def put_away(self, live: LiveSession, reason: str, *, is_final: bool = False) -> bool:
        """Write a session down and end its box; its lock has to be held.

        Args:
            live: The session.
            reason: Of the metrics.
            is_final: Whether its box ends also where it cannot be written now.

        Returns:
            False when it could not be written and is still here.
        """
        if live.has_live_box and not await self._checkpoints.write(live):
            if not is_final:
                return False
            self.end(live, "the session was ended while it could not be written down")
        await self.note_end(live)
        if not await self._checkpoints.write_lost(live) and not is_final:
            return False
        if live.box is not None:
            self.abandon(live)
            self._parts.metrics.evictions.of(reason).inc()
        return True

    async def note_end(self, live: LiveSession) -> None:
        """Write down that something went with a box, where there is a checkpoint that can say so."""
        if live.box is not None and not live.box.is_alive and live.is_dirty:
            live.taken_along, live.is_dirty = "its box has ended", False
        if live.taken_along:
            await self._checkpoints.mark(live, live.taken_along)
            live.taken_along = ""

    # ------------------------------------------------------------------ inside

    async def _restore(self, live: LiveSession, flavor: Flavor, state: StateRecord, readied: Readied) -> Readied:
        """Bring the variables back; where interpreters end over them, the last box is one without."""
        unplaced = readied.unplaced
        for _ in range(_RESTORES):
            restored, lost = await self._checkpoints.restore(live, state)
            if live.has_live_box:
                break
            unplaced = await self._bring(live, flavor)
            live.is_unrestored = True
        return Readied(True, False, restored, lost, unplaced)

    async def _bring(self, live: LiveSession, flavor: Flavor) -> tuple[tuple[str, str], ...]:
        """Have a box with the files of a session; returns those that could not be put there."""
        if not live.has_live_box:
            await self._renew(live, flavor)
        return tuple(await self._place(live))

    async def _renew(self, live: LiveSession, flavor: Flavor) -> None:
        self.abandon(live)
        await self._make_room()
        if live.state is not None and live.state.flavor == "science":
            flavor = "science"
        self._taking += 1
        try:
            live.box = await self._parts.backend.take(flavor, live.record.tenant)
        finally:
            self._taking -= 1
        live.flavor = flavor
        live.pending = {file.path for file in live.files.values() if file.role is Role.PENDING}
        live.stored_versions = dict.fromkeys(live.pending)
        self._count()

    async def _place(self, live: LiveSession) -> list[tuple[str, str]]:
        """Put what the session has and the box has not, and take away what it has not any more."""
        box = live.box
        assert box is not None
        wanted = {path: file for path, file in live.files.items() if file.role is not Role.LOG}
        gone = [path for path in live.placed if path not in wanted]
        new = [file for path, file in wanted.items() if live.placed.get(path) != file.sha256]
        unplaced = []
        for path in gone:
            await box.delete("data", path)
            del live.placed[path]
        for file in new:
            mode = 0o444 if file.is_read_only else 0o644
            try:
                await box.put("data", file.path, file.size_bytes, self._parts.blobs.open(file.sha256), mode=mode)
            except (errors.InvalidRequest, errors.NotFound) as error:  # code has made a folder of its name; it is lost
                unplaced.append((file.path, error.message))
            else:
                live.placed[file.path] = file.sha256
        if gone or new:
            await box.accept()
        return unplaced

    async def _make_room(self) -> None:
        """Put idle sessions away until one more box may be taken.

        Raises:
            errors.Unavailable: All of them run, or those that idle cannot be written down (code `sandbox_full`).
        """
        settings = self._parts.settings
        most = max(1, settings.max_boxes - settings.warm - settings.warm_science)
        while len(self.with_boxes()) + self._taking >= most:
            if not await self.evict_oldest("boxes"):
                raise self._full(most)

    def _full(self, most: int) -> errors.Unavailable:
        idle = [live for live in self.with_boxes() if not live.lock.locked()]
        unsaved = [live.unsaved for live in idle if live.unsaved is not None]
        why = "run code"
        if unsaved:
            why = f"are taken, and {len(unsaved)} that idle hold what cannot be written down ({unsaved[0]})"
        return errors.Unavailable(
            f"All {most} boxes of this server {why}; try again in a moment", code="sandbox_full", retry_after_s=1
        )

    async def evict_oldest(self, reason: str) -> bool:
        """Put away the session that has idled longest; false when none idles."""
        for live in sorted(self.with_boxes(), key=lambda one: one.used_s):
            if live.lock.locked():
                continue
            async with live.lock:
                if live.box is None or not await self.put_away(live, reason):
                    continue
                await self.let_go(live)
            return True
        return False

    async def let_go(self, live: LiveSession) -> None:
        """Forget a session that was put away, so that every process may have it."""
        self._holding.drop(live)
        if live.hold is not None:
            await self._holding.released(live.hold)

    def with_boxes(self) -> list[LiveSession]:
        """List the sessions that have a living box."""
        return [live for live in self._holding.sessions.values() if live.has_live_box]

    def _close(self, box: Box) -> None:
        self._parts.finish(box.close())
        self._count()

    def _count(self) -> None:
        self._parts.metrics.live.set(len(self.with_boxes()))
