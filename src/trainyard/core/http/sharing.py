"""One answer for all who ask the same thing at the same time."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class Shared(Generic[Answer]):
    """Runs a coroutine function once for all who call while it runs, so that a crowd costs as much as one.

    A caller that is cancelled leaves the others waiting; an exception is raised to all of them.
    """

    def __init__(self, ask: Callable[[], Awaitable[Answer]]) -> None:
        self._ask = ask
        self._asking: asyncio.Task[Answer] | None = None

    async def __call__(self) -> Answer:
        """Join the call that runs, or begin one."""
        loop = asyncio.get_running_loop()
        if self._asking is None or self._asking.done() or self._asking.get_loop() is not loop:
            self._asking = loop.create_task(self._answer())
            self._asking.add_done_callback(_seen)
        return await asyncio.shield(self._asking)

    async def _answer(self) -> Answer:
        return await self._ask()


def _seen(asking: asyncio.Task[Answer]) -> None:
    """Look at the exception, which nobody else does when all callers have left."""
    if not asking.cancelled():
        asking.exception()
