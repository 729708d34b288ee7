"""A limiter of each kind over a clock that moves when told to and a ledger of the test's own."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from redis import Redis

from trainyard.core import redis as redis_factory
from trainyard.core.clock import FakeClock
from trainyard.core.limits.base import Limiter
from trainyard.core.limits.memory import MemoryLimiter
from trainyard.core.limits.redis import RedisLimiter
from trainyard.core.limits.types import Amount, Limits, Quota, Reservation, Subject

START_S = 1_700_000_000.0
"""2023-11-14T22:13:20Z."""
WINDOW_S = 10.0
FOREVER_S = 1e6
_TOLD_TIME = "(function() local t = tonumber(redis.call('GET', 'now')) return {math.floor(t / 1e6), t % 1e6} end)()"


class Books:
    """What a ledger does, in a list.

    Attributes:
        questions: How often it was asked.
        gate: What a question waits for; open from the start.
        failure: Raised in place of an answer.
    """

    def __init__(self) -> None:
        self.entries: list[tuple[float, tuple[str, ...], Amount]] = []
        self.questions = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.failure: Exception | None = None

    def write(self, at: float, subjects: Sequence[str], amount: Amount) -> None:
        self.entries.append((at, tuple(subjects), amount))

    async def spent(self, subject: str, since: float, until: float) -> Amount:
        """The sum as it stands when the question is answered."""
        self.questions += 1
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        found = [amount for at, names, amount in self.entries if subject in names and since <= at < until]
        return Amount(sum(each.tokens for each in found), sum(each.cost_micros for each in found))


class ToldClock(FakeClock):
    """Moves the clock of the scripts in Redis along."""

    def __init__(self, url: str, start: float) -> None:
        super().__init__(start)
        self._client: Redis = Redis.from_url(url)
        self._tell()

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self._tell()

    def close(self) -> None:
        self._client.close()

    def _tell(self) -> None:
        self._client.set("now", round(self.monotonic() * 1e6) + 1_000_000)


@dataclass
class Stand:
    """A limiter with what it stands on."""

    limiter: Limiter
    clock: FakeClock
    books: Books = field(default_factory=Books)

    async def work(self, subjects: Sequence[Subject], tokens: int, used: int | None = None, cost: int = 0) -> None:
        """One request from its begin to its end."""
        reservation = await self.limiter.reserve(subjects, Amount(tokens, cost))
        await self.end(reservation, tokens if used is None else used, cost)

    async def end(self, reservation: Reservation, tokens: int, cost: int = 0) -> None:
        """Settle in the order of the house: the ledger first."""
        at, used = self.clock.now(), Amount(tokens, cost)
        self.books.write(at, [subject.name for subject in reservation.subjects], used)
        await self.limiter.settle(reservation, used, at=at)

    async def close(self) -> None:
        await self.limiter.aclose()
        if isinstance(self.clock, ToldClock):
            self.clock.close()


def memory_stand(start: float = START_S) -> Stand:
    clock, books = FakeClock(start), Books()
    return Stand(MemoryLimiter(books.spent, clock, window_s=WINDOW_S), clock, books)


def redis_stand(url: str, start: float = START_S, lease_s: float = FOREVER_S) -> Stand:
    clock, books = ToldClock(url, start), Books()
    return Stand(redis_limiter(url, books, clock, lease_s), clock, books)


def redis_limiter(url: str, books: Books, clock: FakeClock, lease_s: float = FOREVER_S) -> RedisLimiter:
    """One more process, as far as Redis can tell."""
    client = redis_factory.connect(url)
    return RedisLimiter(
        client, books.spent, clock, window_s=WINDOW_S, prefix="test:", lease_s=lease_s, redis_time=_TOLD_TIME
    )


def key(
    name: str = "a",
    *,
    requests: int | None = None,
    tokens: int | None = None,
    concurrency: int | None = None,
    quota: Quota | None = None,
) -> Subject:
    return Subject(f"key:{name}", Limits(requests, tokens, concurrency), quota or Quota())
