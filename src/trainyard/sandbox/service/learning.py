"""Learning what boxes can run from one of them, beside requests: an image may take minutes to come."""

import asyncio
from typing import Final

import structlog

from trainyard.core import errors
from trainyard.sandbox.languages import Languages
from trainyard.sandbox.service.parts import Parts

_AGAIN_S: Final = 5.0
_TENANT: Final = "trainyard"
"""Whose the box is that is asked; a box is used once, so that nobody meets it again."""

_log = structlog.get_logger("sandbox")


class Learning:
    """Asks a box, until one has told."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; until a box has told, there is Python."""
        self._parts.languages = Languages.unasked(self._parts.limits.memory_bytes)
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                self._parts.languages = await self._ask()
            except errors.TrainyardError as error:
                if error.code == "sandbox_too_weak":
                    return  # there will be no box
                _log.warning("languages_not_told", reason=error.message)
            except Exception:  # noqa: BLE001 - the edge of a job: without it there is Python alone until a new start
                _log.error("languages_not_told", exc_info=True)
            else:
                _log.info("languages_told", languages=[one.code for one in self._parts.languages.available()])
                return
            await asyncio.sleep(_AGAIN_S)

    async def _ask(self) -> Languages:
        box = await self._parts.backend.take("lean", _TENANT)
        try:
            return await Languages.of_box(box, self._parts.limits.memory_bytes)
        finally:
            await box.close()
