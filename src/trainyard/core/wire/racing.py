"""Connecting to a name with several addresses, of which some may be dead."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final

from trainyard.core.wire.connection import Connection

HEAD_START_S: Final = 0.25
"""What an address has before the next is tried beside it; RFC 8305, section 5."""


async def first_of(addresses: Sequence[str], connect: Callable[[str], Coroutine[Any, Any, Connection]]) -> Connection:
    """Give the connection that stands first; uvloop does not do this by itself.

    Raises:
        OSError: None stands; that of the attempt that failed last.
    """
    if len(addresses) == 1:
        return await connect(addresses[0])
    failure = OSError("a name without addresses")
    left = list(addresses)
    trying: set[asyncio.Task[Connection]] = set()
    try:
        while left or trying:
            if left:
                trying.add(asyncio.create_task(connect(left.pop(0))))
            head_start_s = HEAD_START_S if left else None
            done, _ = await asyncio.wait(trying, timeout=head_start_s, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                trying.remove(task)
                try:
                    return task.result()
                except OSError as error:
                    failure = error
    finally:
        for task in trying:  # not waited for: who is cancelled here would lose what has come to stand
            task.cancel()
            task.add_done_callback(_close_late)
    raise failure


def _close_late(task: asyncio.Task[Connection]) -> None:
    """Close what an attempt has brought that came too late."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
