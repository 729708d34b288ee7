"""Drawing all answers of one request, each to its end or piece by piece, before its time is over."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from msgspec import Struct

from trainyard.core import errors
from trainyard.core.clock import Clock
from trainyard.serving.backends.base import Prepared
from trainyard.serving.streams import Broadcast
from trainyard.serving.types import Piece
from trainyard.serving.types.tally import Tally

_Result = TypeVar("_Result")


class Plan(Struct, frozen=True):
    """What is to be drawn.

    Attributes:
        prepared: One per prompt.
        n: Choices per prompt; answer i belongs to prompt i // n.
        ends_at_s: Moment of `clock.monotonic` at which the time is over.
    """

    prepared: Sequence[Prepared]
    n: int
    clock: Clock
    ends_at_s: float

    @property
    def prompt_tokens(self) -> int:
        """Of all prompts, as counted before."""
        prepared = self.prepared
        return prepared[0].prompt_tokens if len(prepared) == 1 else sum([one.prompt_tokens for one in prepared])

    @property
    def max_completion_tokens(self) -> int:
        """Most that can be drawn."""
        prepared = self.prepared
        return self.n * (prepared[0].max_tokens if len(prepared) == 1 else sum([one.max_tokens for one in prepared]))

    @property
    def drawn(self) -> int:
        """Tokens that `collect` has drawn so far, where it can be told."""
        return sum([one.drawn for one in self.prepared])

    def tally(self) -> Tally:
        """Begin to count."""
        return Tally([one.prompt_tokens for one in self.prepared], self.n)

    async def collect(self) -> Sequence[Piece]:
        """Draw all answers to their end, in the order of their index.

        Raises:
            errors.TrainyardError: As `Prepared.collect`.
        """
        left_s = self._left_s()
        prepared, is_one = self.prepared, len(self.prepared) == 1 and self.n == 1
        if is_one and prepared[0].keeps_time:
            return [await prepared[0].collect(0, left_s)]
        try:
            async with asyncio.timeout(left_s):
                if is_one:
                    return [await prepared[0].collect(0, left_s)]
                return await together([one.collect(choice, left_s) for one in prepared for choice in range(self.n)])
        except TimeoutError as error:
            raise _over() from error

    async def send(self, broadcast: Broadcast) -> None:
        """Draw all answers side by side, every piece as it comes.

        Raises:
            errors.TrainyardError: As `Prepared.stream`.
        """
        left_s = self._left_s()
        try:
            async with asyncio.timeout(left_s):
                streams = [one.stream(choice, left_s) for one in self.prepared for choice in range(self.n)]
                if len(streams) == 1:
                    await _send(broadcast, 0, streams[0])
                else:
                    await together([_send(broadcast, index, stream) for index, stream in enumerate(streams)])
        except TimeoutError as error:
            raise _over() from error

    async def send_whole(self, broadcast: Broadcast) -> None:
        """Draw all answers to their end and send each as one piece; raises as `collect`."""
        for index, piece in enumerate(await self.collect()):
            broadcast.put(index, piece)

    def _left_s(self) -> float:
        left_s = self.ends_at_s - self.clock.monotonic()
        if left_s <= 0:
            raise _over()
        return left_s


async def together(works: Sequence[Coroutine[Any, Any, _Result]]) -> list[_Result]:
    """Do all side by side; the first error ends the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in works]
    except BaseExceptionGroup as several:
        raise _first(several) from several
    return [task.result() for task in tasks]


async def _send(broadcast: Broadcast, index: int, stream: AsyncGenerator[Piece, None]) -> None:
    async with aclosing(stream):
        async for piece in stream:
            broadcast.put(index, piece)
            if broadcast.is_far_ahead:
                await broadcast.room()


def _first(several: BaseExceptionGroup[BaseException]) -> BaseException:
    found: BaseException = several
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def _over() -> errors.DeadlineExceeded:
    return errors.DeadlineExceeded("The answer took too long; ask for fewer tokens")
