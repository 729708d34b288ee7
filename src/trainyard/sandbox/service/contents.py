"""Bytes into the store and names for them into the database, so that neither is ever without the other."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from typing import Literal, TypeVar

import structlog

from trainyard.core import errors
from trainyard.core.blobs import Blob
from trainyard.sandbox.service.parts import Parts
from trainyard.sandbox.store import Doomed

_log = structlog.get_logger("sandbox")

CONTENT_LOST = "content_lost"

_WAIT_S = 0.05
_PATIENCE_S = 10.0

Result = TypeVar("Result")


class Contents:
    """Puts contents into the store and removes what has lost its last name."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def put(
        self, pieces: AsyncIterator[bytes], max_bytes: int, direction: str, what: Literal["file", "state"] = "file"
    ) -> Blob:
        """Store what comes, counting.

        Raises:
            errors.TooLarge: It is longer than it may be (code `file_too_large`, `state_too_large`); nothing is kept.
        """
        blob = await self._parts.blobs.put_stream(_bounded(pieces, max_bytes, what))
        self._parts.metrics.bytes.of(direction).inc(blob.size_bytes)
        return blob

    async def named(self, change: Callable[[], Awaitable[Result]], contents: Collection[str]) -> Result:
        """Run a transaction that names contents which were just put.

        A content of which the last other name went away meanwhile may be on its way out: then this waits, and whether
        it is there in the end is looked up after it has a name. Those that get no name, such as where the tenant has no
        room for them, are removed.

        Raises:
            errors.Unavailable: One is gone (code `content_lost`); putting it again helps.
        """
        waited_s = 0.0
        while True:
            try:
                done = await change()
                break
            except Doomed as doomed:
                if waited_s >= _PATIENCE_S:
                    raise lost() from doomed
            except BaseException:
                self.drop(contents)
                raise
            await asyncio.sleep(_WAIT_S)
            waited_s += _WAIT_S
        for sha256 in set(contents):
            if not await self._parts.blobs.exists(sha256):
                raise lost()
        return done

    def drop(self, contents: Collection[str]) -> None:
        """Remove in the background, of contents that were put in vain, those that nobody names."""
        if contents:
            self._parts.finish(self.collect_later(list(contents)))

    async def collect(self, contents: Collection[str]) -> int:
        """Remove those that nobody names; returns how many."""
        if not contents:
            return 0
        parts = self._parts
        chosen = await parts.stored(parts.collector.doom, contents, parts.clock.now())
        return await self._remove(chosen)

    async def collect_later(self, contents: Collection[str]) -> None:
        """Remove those that nobody names, as well as it can be done now; `gc` finds what is left."""
        try:
            await self.collect(contents)
        except (errors.TrainyardError, OSError) as error:
            _log.warning("contents_not_collected", reason=str(error))

    async def collect_condemned(self, doomed_before: float) -> int:
        """Finish what a process began that died."""
        parts = self._parts
        return await self._remove(await parts.stored(parts.collector.condemned, doomed_before))

    async def _remove(self, chosen: Collection[str]) -> int:
        removed = 0
        for sha256 in chosen:
            removed += await self._parts.blobs.delete(sha256)
        if chosen:
            await self._parts.stored(self._parts.collector.forget, chosen)
        self._parts.metrics.collected.inc(removed)
        return removed


def lost() -> errors.Unavailable:
    """Make the answer where a content was removed while it got its name."""
    return errors.Unavailable(
        "The same content was being deleted at this moment; send it again", code=CONTENT_LOST, retry_after_s=1
    )


async def _bounded(pieces: AsyncIterator[bytes], max_bytes: int, what: str) -> AsyncIterator[bytes]:
    total = 0
    async for piece in pieces:
        total += len(piece)
        if total > max_bytes:
            raise errors.TooLarge(
                f"One {what} may have {max_bytes} bytes, and this one has more",
                code=f"{what}_too_large",
                param=what,
                data={"max_bytes": max_bytes},
            )
        yield piece
