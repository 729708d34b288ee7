"""Removing what is over: sessions after their time, contents without a name."""

import asyncio

import structlog
from msgspec import Struct

from trainyard.core import errors
from trainyard.sandbox.service.contents import Contents
from trainyard.sandbox.service.parts import Parts

_log = structlog.get_logger("sandbox")

_EVERY_S = 60.0
_STRAYS_EVERY_S = 3600.0
_STEP = 100
_PAGE = 500

STRAY_S = 3600.0
"""Age at which a content without a name is not on its way to one any more."""

_DEAD_COLLECTOR_S = 600.0
_UNFINISHED_S = 86_400.0
"""No upload takes a day."""


class Collected(Struct, frozen=True, kw_only=True):
    """What was removed."""

    sessions: int
    contents: int


class Collecting:
    """Removes sessions, files, states and contents."""

    def __init__(self, parts: Parts, contents: Contents) -> None:
        self._parts = parts
        self._contents = contents
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to do it in the background."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def collect(self, *, stray_s: float = STRAY_S) -> Collected:
        """Remove all that is over now.

        Args:
            stray_s: Age from which contents are looked at that crashed processes may have left without a name.
        """
        sessions, contents = await self._expired()
        contents += await self._contents.collect_condemned(self._parts.clock.now() - _DEAD_COLLECTOR_S)
        await self._parts.blobs.remove_unfinished(min_age_s=_UNFINISHED_S)
        return Collected(sessions=sessions, contents=contents + await self._strays(stray_s))

    async def remove(self, session_id: str) -> None:
        """Remove a session that nobody uses."""
        freed = await self._parts.stored(self._parts.sessions.remove, session_id)
        await self._contents.collect_later(freed)

    # ------------------------------------------------------------------ inside

    async def _run(self) -> None:
        passes = 0
        while True:
            try:
                if passes % int(_STRAYS_EVERY_S / _EVERY_S) == 0:
                    await self.collect()
                else:
                    await self._expired()
            except (errors.Unavailable, OSError) as error:
                _log.warning("not_collected", reason=str(error))
            except Exception:  # noqa: BLE001 - the edge of a job: the next round may get past what this one met
                _log.error("not_collected", exc_info=True)
            passes += 1
            await asyncio.sleep(_EVERY_S)

    async def _expired(self) -> tuple[int, int]:
        parts, sessions, contents = self._parts, 0, 0
        while True:
            now = parts.clock.now()
            expired = await parts.stored(parts.sessions.expired, now, _STEP)
            for session in expired:
                freed = await parts.stored(parts.sessions.remove, session.id, expired_at=now)
                contents += await self._contents.collect(freed)
                sessions += 1
            if len(expired) < _STEP:
                return sessions, contents

    async def _strays(self, min_age_s: float) -> int:
        removed, page = 0, list[str]()
        async for blob in self._parts.blobs.stored(min_age_s=min_age_s):
            page.append(blob.sha256)
            if len(page) == _PAGE:
                removed += await self._contents.collect(page)
                page.clear()
        return removed + await self._contents.collect(page)
