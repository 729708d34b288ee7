"""One request whose answer is there already: counted when it came, written down before the answer goes out."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from trainyard.core import errors
from trainyard.core.db.writer import Write
from trainyard.core.ledger.types import Entry
from trainyard.core.limits.types import Passed
from trainyard.core.metering import headers
from trainyard.core.metering.charges import Parts
from trainyard.core.metering.types import Job, Used
from trainyard.core.principal import Principal


class HitCharge:
    """A request that holds nothing; see `Charge`. The limiter hears of it again only when nothing comes of it."""

    __slots__ = ("_began_s", "_is_over", "_job", "_parts", "_passed", "_principal")

    def __init__(self, parts: Parts, principal: Principal, job: Job, passed: Passed, began_s: float) -> None:
        self._parts = parts
        self._principal = principal
        self._job = job
        self._passed = passed
        self._began_s = began_s
        self._is_over = False

    @property
    def lines(self) -> bytes:
        """Headers of the answer, as the bars stood when the request was let in."""
        return headers.of_passed(self._passed, self._parts.window_s)

    async def settle(self, used: Used, *also: Write) -> None:
        """Write down what the answer says; see `Charge.settle`."""
        if self._is_over:
            return
        self._is_over = True
        parts = self._parts
        entry = parts.entry(self._principal, self._job, used, self._began_s)
        try:
            await parts.ledger.submit(entry, also)
        except asyncio.CancelledError:
            parts.finish(self._finish(entry, also))
            raise
        except errors.TrainyardError:
            await self._take_back("lost")
            raise
        self._parts.metrics.settle_hit(entry)

    async def refund(self) -> None:
        """Take the request back; see `Charge.refund`."""
        if not self._is_over:
            self._is_over = True
            await self._take_back("refunded")

    async def __aenter__(self) -> Self:
        """Begin the block in which the answer is written."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Refund unless the charge was settled."""
        await self.refund()

    # ------------------------------------------------------------------ inside

    async def _finish(self, entry: Entry, also: Sequence[Write]) -> None:
        """Learn for a caller who has left whether the entry is written, by writing it again: that changes nothing."""
        try:
            await self._parts.ledger.submit(entry, also)
        except errors.TrainyardError:
            await self._take_back("lost")
        else:
            self._parts.metrics.settle_hit(entry)

    async def _take_back(self, how: str) -> None:
        self._parts.metrics.end_hit(how)
        await self._parts.limiter.uncount(self._passed)
