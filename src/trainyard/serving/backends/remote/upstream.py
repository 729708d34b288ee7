"""One server elsewhere, for one model: how it does, who may try it, and how often."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from trainyard.core import wire
from trainyard.core.catalog import ModelEntry
from trainyard.core.clock import Clock
from trainyard.serving.backends.remote import failures, retries
from trainyard.serving.backends.remote.breaker import Breaker, Pass, State
from trainyard.serving.backends.remote.failures import AttemptFailed, Outcome
from trainyard.serving.backends.remote.meters import UpstreamMetrics
from trainyard.serving.backends.remote.transport import Transport

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_NOTHING_LEARNT = frozenset({Outcome.OVERLOADED, Outcome.CANCELLED, Outcome.LATE})


class StreamDecoder(Protocol[T_co]):
    """Makes items of the blocks of a stream; every method raises `AttemptFailed` when it cannot."""

    @property
    def is_done(self) -> bool:
        """Whether everything that counts has come."""
        ...

    def feed(self, block: bytes) -> Iterable[T_co]:
        """Take a block; gives what it completed."""
        ...

    def end(self) -> Sequence[T_co]:
        """Say that nothing follows; returns what was held back for the end."""
        ...


class Upstream:
    """Sends requests of one model and gives up in time.

    Attributes:
        entry: Of the catalog.
        knows_stream_options: False once the server has refused them.
    """

    def __init__(
        self, entry: ModelEntry, key: str | None, pool: wire.Pool, clock: Clock, metrics: UpstreamMetrics
    ) -> None:
        self.entry = entry
        self.model = entry.name
        self.knows_stream_options = True
        self.metrics = metrics
        self.breaker = Breaker(clock)
        self._transport = Transport(entry, key, pool, clock)
        self._budget = retries.RetryBudget()
        self._places = asyncio.Semaphore(entry.max_concurrency) if entry.max_concurrency else None

    async def whole(self, path: str, body: bytes, timeout_s: float, decode: Callable[[bytes], T]) -> T:
        """Send a request and read its whole answer.

        Args:
            path: Below the base URL.
            body: JSON.
            timeout_s: For all attempts together.
            decode: Reads the answer; raises `AttemptFailed` when it is none.

        Raises:
            errors.Unavailable: It is overloaded, or is left alone after failures.
            errors.UpstreamFailed: It failed.
            errors.InvalidRequest: It found the request at fault.
            errors.DeadlineExceeded: `timeout_s` is over.
        """
        ends_at_s = self._ends_at_s(timeout_s)
        if self._places is not None:
            await self._enter(self._places, ends_at_s)
        try:
            return await self._whole(path, body, ends_at_s, decode)
        finally:
            if self._places is not None:
                self._places.release()

    async def stream(
        self, path: str, body: bytes, timeout_s: float, decoder: StreamDecoder[T]
    ) -> AsyncGenerator[T, None]:
        """Send a request and give what its answer says as it comes; closing it closes the connection.

        Raises as `whole`; nothing is tried again once a block has come.
        """
        ends_at_s = self._ends_at_s(timeout_s)
        if self._places is not None:
            await self._enter(self._places, ends_at_s)
        try:
            connection, given = await self._begin(path, body, ends_at_s)
            outcome = Outcome.CANCELLED
            try:
                block = connection.answer.take()
                while block:
                    for item in decoder.feed(block):
                        yield item
                    if decoder.is_done:
                        break
                    block = await self._transport.next_block(connection, ends_at_s)
                last = decoder.end()
                await self._transport.drain(connection)
                outcome = Outcome.OK
                for item in last:
                    yield item
            except AttemptFailed as failure:
                outcome = failure.outcome
                raise failure.error from failure
            finally:
                self._settle(given, outcome)
                self._transport.let_go(connection)
        finally:
            if self._places is not None:
                self._places.release()

    def now_s(self) -> float:
        """Read the clock by which attempts are timed, that of the event loop."""
        return asyncio.get_running_loop().time()

    # --------------------------------------------------------------- attempts
    async def _whole(self, path: str, body: bytes, ends_at_s: float, decode: Callable[[bytes], T]) -> T:
        self._budget.earn()
        attempt = 0
        while True:
            given = self._pass()
            outcome = Outcome.CANCELLED
            try:
                value = decode(await self._transport.whole(path, body, ends_at_s))
                outcome = Outcome.OK
                return value
            except AttemptFailed as failure:
                outcome, failed = failure.outcome, failure
            finally:
                self._settle(given, outcome)
            attempt += 1
            await self._pause(failed, attempt, ends_at_s)

    async def _begin(self, path: str, body: bytes, ends_at_s: float) -> tuple[wire.Connection, Pass]:
        """Get a first block; who gets it settles the pass that comes with it."""
        self._budget.earn()
        attempt = 0
        while True:
            given = self._pass()
            outcome: Outcome | None = Outcome.CANCELLED
            try:
                connection = await self._transport.begin(path, body, ends_at_s)
                outcome = None
                return connection, given
            except AttemptFailed as failure:
                outcome, failed = failure.outcome, failure
            finally:
                if outcome is not None:
                    self._settle(given, outcome)
            attempt += 1
            await self._pause(failed, attempt, ends_at_s)

    async def _pause(self, failure: AttemptFailed, attempt: int, ends_at_s: float) -> None:
        """Wait until the request may be sent again, or raise what the caller is told."""
        wait_s = retries.pause_s(attempt, failure.error.retry_after_s)
        if not self._may_repeat(failure, attempt, wait_s, ends_at_s):
            raise failure.error from failure
        self.metrics.retry(self.model)
        await asyncio.sleep(wait_s)

    def _may_repeat(self, failure: AttemptFailed, attempt: int, wait_s: float, ends_at_s: float) -> bool:
        if not failure.may_repeat or attempt > self.entry.retries or wait_s > retries.LONGEST_PAUSE_S:
            return False
        is_late = self.now_s() + wait_s >= ends_at_s
        return not is_late and self.breaker.state is State.CLOSED and self._budget.spend()

    def _pass(self) -> Pass:
        given = self.breaker.enter()
        if given is Pass.REFUSED:
            raise failures.resting(self.model, self.breaker.wait_s)
        return given

    def _settle(self, given: Pass, outcome: Outcome) -> None:
        """Say what became of an attempt."""
        if outcome is Outcome.OK or outcome is Outcome.REJECTED:
            self.breaker.succeeded(given)
        elif outcome in _NOTHING_LEARNT:
            self.breaker.abandoned(given)
        else:
            self.breaker.failed(given)
        self.metrics.attempt(self.model, outcome, self.breaker.state)

    # ----------------------------------------------------------------- places
    async def _enter(self, places: asyncio.Semaphore, ends_at_s: float) -> None:
        """Take one of the `max_concurrency` places."""
        try:
            async with asyncio.timeout_at(min(ends_at_s, self.now_s() + self.entry.first_byte_timeout_s)):
                await places.acquire()
        except TimeoutError as error:
            raise failures.overloaded(self.model, 1.0) from error

    def _ends_at_s(self, timeout_s: float) -> float:
        return asyncio.get_running_loop().time() + min(timeout_s, self.entry.timeout_s)
