"""One request on its way from the reservation to its entry in the ledger."""

import asyncio
import itertools
import secrets
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

from trainyard.core import errors
from trainyard.core.clock import Clock
from trainyard.core.db.writer import Wake, Write
from trainyard.core.ledger.store import rows, work
from trainyard.core.ledger.types import Entry
from trainyard.core.limits.base import Limiter
from trainyard.core.limits.types import Amount, Reservation
from trainyard.core.metering import headers
from trainyard.core.metering.meters import MeterMetrics
from trainyard.core.metering.types import Job, Used
from trainyard.core.principal import Principal


class Recorder(Protocol):
    """What metering needs of the ledger."""

    def submit(self, entry: Entry, also: Sequence[Write] = ()) -> asyncio.Future[bool]:
        """Begin to record, as `Ledger.submit`."""
        ...

    def submit_then(self, entry: Entry, wake: Wake) -> None:
        """Begin to record, as `Ledger.submit_then`."""
        ...


@dataclass(slots=True)
class Parts:
    """What all charges of a meter share.

    Attributes:
        process: Tells the entries of this process from all others'.
        window_s: Of the limiter, for headers.
        tasks: Work that outlives the request that began it.
    """

    limiter: Limiter
    ledger: Recorder
    clock: Clock
    metrics: MeterMetrics
    window_s: float
    process: str = field(default_factory=lambda: secrets.token_hex(8))
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def entry_id(self, at: float) -> str:
        """Make an id as `ledger.store` wants it, without asking for random bits each time."""
        return rows.entry_id(at, f"{self.process}{next(self.numbers):06x}")

    def entry(self, principal: Principal, job: Job, used: Used, began_s: float) -> Entry:
        """Write down work that ends now."""
        at = self.clock.now()
        charged = cost_micros = 0
        if not job.cached:
            prompt = used.prompt_tokens - used.free_prompt_tokens
            completion = used.completion_tokens - used.free_completion_tokens
            charged, cost_micros = prompt + completion, job.prices.cost_micros(prompt, completion)
        return Entry(
            entry_id=self.entry_id(at),
            at=at,
            tenant=principal.tenant,
            user=principal.user,
            key_id=principal.key_id,
            request_id=job.request_id,
            route=job.route,
            model=used.model or job.model,
            outcome=used.outcome,
            cached=job.cached,
            prompt_tokens=used.prompt_tokens,
            cached_tokens=used.cached_tokens,
            completion_tokens=used.completion_tokens,
            charged_tokens=charged,
            cost_micros=cost_micros,
            seconds=max(0, round((self.clock.monotonic() - began_s) * 1e6)) / 1e6,
        )

    def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Go on with work whose caller has left."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)


class MeteredCharge:
    """A reservation and what is known of its work; see `Charge`."""

    __slots__ = ("_began_s", "_is_over", "_job", "_parts", "_principal", "_reservation")

    def __init__(self, parts: Parts, principal: Principal, job: Job, reservation: Reservation, began_s: float) -> None:
        self._parts = parts
        self._principal = principal
        self._job = job
        self._reservation = reservation
        self._began_s = began_s
        self._is_over = False

    @property
    def lines(self) -> bytes:
        """Headers of the answer, as the bars stood when the request was let in."""
        return headers.of_passed(self._reservation, self._parts.window_s)

    async def settle(self, used: Used, *also: Write) -> None:
        """Charge what was used; see `Charge.settle`."""
        if self._is_over:
            return
        self._is_over = True
        entry = self._parts.entry(self._principal, self._job, used, self._began_s)
        if used.work is not None:
            also = (work.insert(entry.entry_id, used.work), *also)
        try:
            await self._parts.ledger.submit(entry, also)
        except asyncio.CancelledError:
            self._parts.finish(self._finish(entry, also))
            raise
        except errors.TrainyardError:
            await self._release("lost")
            raise
        await self._count(entry)

    async def refund(self) -> None:
        """Undo the reservation; see `Charge.refund`."""
        if not self._is_over:
            self._is_over = True
            await self._release("refunded")

    async def __aenter__(self) -> Self:
        """Begin the block in which the work is done."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Refund unless the charge was settled."""
        await self.refund()

    # ------------------------------------------------------------------ inside

    async def _finish(self, entry: Entry, also: Sequence[Write]) -> None:
        """Learn for a caller who has left whether the entry is written, by writing it again: that changes nothing.

        That is cheaper for all who stay than `asyncio.shield` around every wait.
        """
        try:
            await self._parts.ledger.submit(entry, also)
        except errors.TrainyardError:
            await self._release("lost")
        else:
            await self._count(entry)

    async def _count(self, entry: Entry) -> None:
        """Tell the limiter; when the caller is cancelled in the middle, it is told again by somebody who stays."""
        self._parts.metrics.settle(entry)
        limiter, amount = self._parts.limiter, Amount(entry.charged_tokens, entry.cost_micros)
        try:
            await limiter.settle(self._reservation, amount, at=entry.at)
        except asyncio.CancelledError:
            self._parts.finish(limiter.settle(self._reservation, amount, at=entry.at))
            raise

    async def _release(self, how: str) -> None:
        self._parts.metrics.end(how)
        limiter = self._parts.limiter
        try:
            await limiter.refund(self._reservation)
        except asyncio.CancelledError:
            self._parts.finish(limiter.refund(self._reservation))
            raise


async def drained(tasks: set[asyncio.Task[None]]) -> None:
    """Wait for all work that outlived its requests."""
    while tasks:
        await asyncio.gather(*tasks)
