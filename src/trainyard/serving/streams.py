"""Several answers as one stream of events, with heartbeats while nothing comes."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from trainyard.core import errors
from trainyard.core.clock import Clock
from trainyard.serving.types import Piece

Event = tuple[int, Piece]
"""Index of the answer, and what is new of it."""


async def merge(
    streams: Sequence[AsyncGenerator[Piece, None]], *, clock: Clock, ends_at_s: float, heartbeat_s: float
) -> AsyncGenerator[Event | None, None]:
    """Read all streams side by side; None stands for a heartbeat. Closing it closes all of them.

    Args:
        streams: Read no further than the consumer asks, so that a slow consumer slows them down.
        clock: Its monotonic time decides about the end.
        ends_at_s: Moment of `clock.monotonic` at which the time is over.
        heartbeat_s: Longest silence.

    Raises:
        errors.DeadlineExceeded: The time is over.
    """
    waiting = {asyncio.ensure_future(anext(stream)): index for index, stream in enumerate(streams)}
    try:
        while waiting:
            left_s = ends_at_s - clock.monotonic()
            if left_s <= 0:
                raise errors.DeadlineExceeded("The answer took too long; ask for fewer tokens")
            done, _ = await asyncio.wait(waiting, timeout=min(left_s, heartbeat_s), return_when=asyncio.FIRST_COMPLETED)
            if not done and left_s > heartbeat_s:
                yield None
            for task in done:
                index = waiting.pop(task)
                try:
                    piece = task.result()
                except StopAsyncIteration:
                    continue
                yield index, piece
                waiting[asyncio.ensure_future(anext(streams[index]))] = index
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        for stream in streams:
            await stream.aclose()
