"""The limiter of several processes: every step is one script in Redis, which is where the counters are."""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Sequence
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from trainyard.core import errors
from trainyard.core import redis as redis_factory
from trainyard.core.clock import Clock
from trainyard.core.limits import lua, periods, refusals
from trainyard.core.limits.base import Spent
from trainyard.core.limits.line import Answer, Argument, Script, ScriptLine
from trainyard.core.limits.types import Amount, Passed, Quota, Reservation, Standing, Subject

if TYPE_CHECKING:
    from redis.asyncio import Redis

LEASE_S = 30.0
"""A process that dies frees what it held within this time; renewed after a third of it."""

_CODE = "limiter_unavailable"
_NOTHING = Amount()
_LATE_RETRY_S = 1.0
_MAX_LOADS = 5
"""Rounds in which one request loads quotas; each further one means that a period or the quota was changed meanwhile."""
_LOAD_KEPT_S = 5.0
_MICRO = 1_000_000
_RENEWED_AT_ONCE = 500
_NEVER, _BUSY = -1, -2
"""In place of a wait: it takes more than the bar; running work has to end first."""
_WINDOWS: dict[bytes, refusals.Dimension] = {
    b"requests": "requests",
    b"tokens": "tokens",
    b"concurrency": "concurrency",
}


class RedisHeld(Reservation, kw_only=True):
    """A reservation with the moment of its begin, microseconds by our clock."""

    begun_us: int


class RedisCounted(Passed, kw_only=True):
    """A request that holds nothing, by the name that it has in the window."""

    id: str


class RedisLimiter:
    """Counts in Redis for every process that names the same one and the same prefix.

    Windows and leases go by the clock of Redis; periods of quotas by ours, which stamps the ledger: hosts have to agree
    on the time of day to a few seconds. Redis must not evict keys (`maxmemory-policy noeviction`). Counters that were
    lost (a flush, a restart without persistence) close the limiter for one window, for nobody knows what ran in it.
    """

    def __init__(
        self,
        client: Redis,
        spent: Spent,
        clock: Clock,
        *,
        window_s: float,
        prefix: str = "trainyard:limits:",
        lease_s: float = LEASE_S,
        redis_time: str = lua.REDIS_TIME,
    ) -> None:
        """Prepare; nothing is opened before the first step.

        Args:
            client: From `core.redis.connect`; closed by `aclose`.
            spent: Tells what the ledger has.
            clock: The one that stamps ledger entries.
            window_s: Length of the sliding window.
            prefix: Before every key.
            lease_s: How long the reservations of a dead process are held.
            redis_time: Lua expression of the clock in Redis, `{seconds, microseconds}`.
        """
        self._client = client
        self._line = ScriptLine(client, _CODE)
        self._spent = spent
        self._clock = clock
        self._window_s = window_s
        self._window_us = round(window_s * _MICRO)
        self._lease_s = lease_s
        self._lease_us = round(lease_s * _MICRO)
        self._prefix = prefix
        steps = (lua.RESERVE, lua.SETTLE, lua.REFUND, lua.RENEW)
        self._reserve, self._settle, self._refund, self._renewal = (
            Script(lua.script(step, redis_time)) for step in steps
        )
        self._me = secrets.token_hex(8)
        self._numbers = count()
        self._seen = ""  # the nonce of the counters that this process has used
        self._open: dict[str, RedisHeld] = {}
        self._late: deque[tuple[Script, list[Argument]]] = deque()
        self._keeper: asyncio.Task[None] | None = None
        self._loads: dict[tuple[str, int, int, int], asyncio.Task[Amount]] = {}
        self._periods: dict[Quota, periods.Period] = {}

    async def reserve(self, subjects: Sequence[Subject], amount: Amount) -> Reservation:
        """Take one request, one place and the amount, of all subjects or of none; see `base.Limiter`."""
        reservation_id, wall_s, left = await self._let_in(subjects, amount, self._lease_us)
        requests, tokens = self._standings(subjects, left)
        held = self._open[reservation_id] = RedisHeld(
            id=reservation_id,
            subjects=tuple(subjects),
            amount=amount,
            requests=requests,
            tokens=tokens,
            begun_us=round(wall_s * _MICRO),
        )
        self._keep()
        return held

    async def count(self, subjects: Sequence[Subject]) -> Passed:
        """Count one request that holds nothing; see `base.Limiter`."""
        name, _, left = await self._let_in(subjects, _NOTHING, 0)
        requests, tokens = self._standings(subjects, left)
        return RedisCounted(id=name, subjects=tuple(subjects), requests=requests, tokens=tokens)

    def count_at_once(self, subjects: Sequence[Subject]) -> Passed | None:
        """Tell nothing: the counters are elsewhere."""
        return None

    async def uncount(self, passed: Passed) -> None:
        """Take back a request that was counted; told later while Redis is away."""
        assert isinstance(passed, RedisCounted)
        await self._tell(self._refund, self._refund_of(passed.id, passed.subjects))

    async def settle(self, reservation: Reservation, used: Amount, *, at: float | None = None) -> None:
        """Count what was used, free what was held; told later while Redis is away."""
        if not reservation.is_open:
            return
        reservation.is_open = False
        self._open.pop(reservation.id, None)
        wall_s = self._clock.now()
        at_us = round((wall_s if at is None else at) * _MICRO)
        arguments: list[Argument] = [self._prefix, reservation.id, at_us, self._window_us, 0, round(wall_s * _MICRO)]
        arguments += [used.tokens, used.cost_micros]
        for subject in reservation.subjects:
            arguments += [subject.name, int(subject.limits.tokens is not None)]
        await self._tell(self._settle, arguments)

    async def refund(self, reservation: Reservation) -> None:
        """Undo the reservation; told later while Redis is away."""
        if not reservation.is_open:
            return
        reservation.is_open = False
        self._open.pop(reservation.id, None)
        await self._tell(self._refund, self._refund_of(reservation.id, reservation.subjects))

    async def ping(self) -> None:
        """Return when Redis answers.

        Raises:
            errors.Unavailable: It does not.
        """
        with redis_factory.answering(_CODE):
            await self._client.ping()

    async def renew(self) -> None:
        """Renew the leases of all that this process holds; done by itself while it holds something."""
        held = list(self._open.values())
        for start in range(0, len(held), _RENEWED_AT_ONCE):
            wall_us = round(self._clock.now() * _MICRO)
            arguments: list[Argument] = [self._prefix, self._lease_us, wall_us]
            for each in held[start : start + _RENEWED_AT_ONCE]:
                if each.is_open:
                    names = [subject.name for subject in each.subjects]
                    arguments += [each.id, each.amount.tokens, each.amount.cost_micros, each.begun_us, len(names)]
                    arguments += names
            # What is settled from here on goes down the line behind this, so that nothing ended is held again.
            told = self._line.call(self._renewal, arguments)
            await asyncio.wait([told])
            told.exception()  # the log has it, and the next renewal comes before the lease ends

    async def aclose(self) -> None:
        """Tell what is still to be told, if Redis is there, and close the connections."""
        tasks = [task for task in (self._keeper, *self._loads.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._tell_late()
        await self._line.drain()
        await self._client.aclose()

    async def _let_in(
        self, subjects: Sequence[Subject], amount: Amount, lease_us: int
    ) -> tuple[str, float, Sequence[int]]:
        """Have the script judge a request until it knows every quota; returns its name, its moment, and what is left.

        Args:
            subjects: Of the request.
            amount: What it takes.
            lease_us: For how long it holds that; 0 = it holds nothing.
        """
        reservation_id = f"rsv_{self._me}_{next(self._numbers)}"
        bases: dict[int, tuple[int, Amount]] = {}
        for _ in range(_MAX_LOADS):
            wall_s = self._clock.now()
            spans = [self._period(subject.quota, wall_s) for subject in subjects]
            answer = await self._ask(reservation_id, subjects, amount, lease_us, wall_s, spans, bases)
            kind = answer[0]
            if kind == b"ok":
                return reservation_id, wall_s, answer[2:]
            if kind == b"closed":
                raise _closed(answer[2] / _MICRO)
            if kind == b"no":
                raise refusals.error(_refusals(subjects, amount, spans, wall_s, answer[2:]), amount, self._window_s)
            places = [place - 1 for place in answer[2::3]]
            asked = zip(places, answer[3::3], answer[4::3], strict=True)
            loaded = await asyncio.gather(
                *[self._base(subjects[place].name, spans[place], until, number) for place, until, number in asked]
            )
            bases = dict(zip(places, zip(answer[4::3], loaded, strict=True), strict=True))
        raise errors.Unavailable("A quota changes faster than it can be loaded", code=_CODE, retry_after_s=1)

    async def _ask(
        self,
        reservation_id: str,
        subjects: Sequence[Subject],
        amount: Amount,
        lease_us: int,
        wall_s: float,
        spans: Sequence[periods.Period | None],
        bases: dict[int, tuple[int, Amount]],
    ) -> Answer:
        span_us = max(self._window_us, self._lease_us)
        arguments: list[Argument] = [self._prefix, reservation_id, self._seen, span_us, self._window_us]
        arguments += [lease_us, round(wall_s * _MICRO), amount.tokens, amount.cost_micros, len(subjects)]
        for index, subject in enumerate(subjects):
            arguments += _subject(subject, spans[index], bases.get(index))
        try:
            answer = await asyncio.shield(self._line.call(self._reserve, arguments))
        except asyncio.CancelledError:
            self._send(self._refund, self._refund_of(reservation_id, subjects))
            raise
        except errors.Unavailable:
            self._be_late(self._refund, self._refund_of(reservation_id, subjects))  # it may have been taken
            raise
        self._seen = answer[1].decode()
        return answer

    def _standings(self, subjects: Sequence[Subject], left: Sequence[int]) -> tuple[Standing | None, Standing | None]:
        """Tell the tightest standing with requests and with tokens, of the three numbers per subject of an answer."""
        requests: Standing | None = None
        tokens: Standing | None = None
        for index, subject in enumerate(subjects):
            requests_left, tokens_left, reset_us = left[3 * index : 3 * index + 3]
            if subject.limits.requests is not None:
                requests = refusals.tightest(requests, Standing(subject.limits.requests, requests_left, self._window_s))
            if subject.limits.tokens is not None:
                tokens = refusals.tightest(tokens, Standing(subject.limits.tokens, tokens_left, reset_us / _MICRO))
        return requests, tokens

    def _period(self, quota: Quota, wall_s: float) -> periods.Period | None:
        if quota.tokens is None and quota.cost_micros is None:
            return None
        period = self._periods.get(quota)
        if period is None or not period.since <= wall_s < period.until:
            if len(self._periods) >= 1000:
                self._periods.clear()
            period = self._periods[quota] = periods.period_at(quota, wall_s)
        return period

    async def _base(self, name: str, span: periods.Period | None, until_us: int, question: int) -> Amount:
        """Ask the ledger, once for all who want to know the same at the same time."""
        assert span is not None
        key = (name, question, span.since, until_us)
        task = self._loads.get(key)
        if task is None:
            task = self._loads[key] = asyncio.create_task(self._load(key))
        return await asyncio.shield(task)

    async def _load(self, key: tuple[str, int, int, int]) -> Amount:
        name, _, since, until_us = key
        keep_s = 0.0
        try:
            base = await self._spent(name, since, until_us / _MICRO)
            keep_s = _LOAD_KEPT_S  # for those whose question is on its way; the answer stays what it is
            return base
        finally:
            asyncio.get_running_loop().call_later(keep_s, self._loads.pop, key, None)

    def _refund_of(self, reservation_id: str, subjects: Sequence[Subject]) -> list[Argument]:
        return [self._prefix, reservation_id, *[subject.name for subject in subjects]]

    async def _tell(self, script: Script, arguments: list[Argument]) -> None:
        """Tell Redis the end of some work; what cannot be told now is told later, also when the caller leaves."""
        await asyncio.wait([self._send(script, arguments)])

    def _send(self, script: Script, arguments: list[Argument]) -> asyncio.Future[Answer]:
        told = self._line.call(script, arguments)
        told.add_done_callback(partial(self._check, script, arguments))
        return told

    def _check(self, script: Script, arguments: list[Argument], told: asyncio.Future[Answer]) -> None:
        if not told.cancelled() and told.exception() is None:
            return
        if script is self._settle:
            arguments[4] = 1  # it may have been counted already
        self._be_late(script, arguments)

    def _be_late(self, script: Script, arguments: list[Argument]) -> None:
        self._late.append((script, arguments))
        self._keep()

    def _keep(self) -> None:
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep_up())

    async def _keep_up(self) -> None:
        """Renew the leases of this process and tell what could not be told, for as long as it lives."""
        loop = asyncio.get_running_loop()
        renewed_s = loop.time()
        while True:
            await asyncio.sleep(min(self._lease_s / 3, _LATE_RETRY_S))
            if loop.time() - renewed_s >= self._lease_s / 3:
                renewed_s = loop.time()
                await self.renew()
            await self._tell_late()

    async def _tell_late(self) -> None:
        late, self._late = self._late, deque()
        if late:
            await asyncio.gather(*[self._tell(script, arguments) for script, arguments in late])


def _subject(subject: Subject, span: periods.Period | None, base: tuple[int, Amount] | None) -> list[Argument]:
    limits, quota = subject.limits, subject.quota
    bars = (limits.requests, limits.tokens, limits.concurrency, quota.tokens, quota.cost_micros)
    arguments: list[Argument] = [subject.name, *["" if bar is None else bar for bar in bars]]
    arguments += ["", ""] if span is None else [span.since * _MICRO, span.until * _MICRO]
    return arguments + (["", "", ""] if base is None else [base[0], base[1].tokens, base[1].cost_micros])


def _closed(wait_s: float) -> errors.Unavailable:
    return errors.Unavailable(
        "The counters of the limiter were lost; nothing is let in until what ran before has left the window, in "
        f"{wait_s:.0f} s",
        code=_CODE,
        retry_after_s=wait_s,  # to the microsecond, by the clock that judges the next call too
    )


def _refusals(
    subjects: Sequence[Subject],
    amount: Amount,
    spans: Sequence[periods.Period | None],
    wall_s: float,
    told: Sequence[Any],
) -> list[refusals.Refusal]:
    found = []
    for at in range(0, len(told), 6):
        place, dimension, limit, used, held, wait_us = told[at : at + 6]
        name, span = subjects[place - 1].name, spans[place - 1]
        if dimension in (b"quota_tokens", b"quota_cost"):
            assert span is not None
            kind: refusals.Dimension = "quota_tokens" if dimension == b"quota_tokens" else "quota_cost"
            asked = amount.tokens if dimension == b"quota_tokens" else amount.cost_micros
            found.append(refusals.quota(name, kind, limit, used, held, asked, span.until, wall_s))
        else:
            found.append(refusals.Refusal(name, _WINDOWS[dimension], limit, used, held, _wait_s(wait_us)))
    return found


def _wait_s(wait_us: int) -> float | None:
    if wait_us == _NEVER:
        return None
    return refusals.BUSY_RETRY_S if wait_us == _BUSY else refusals.retry_after_s(wait_us / _MICRO)
