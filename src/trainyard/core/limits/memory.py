"""The limiter of one process: exact sliding windows and quotas in memory."""

import asyncio
import secrets
from collections.abc import Sequence
from itertools import count

from trainyard.core import errors
from trainyard.core.clock import Clock
from trainyard.core.limits import refusals
from trainyard.core.limits.account import Account, Consumption, Second
from trainyard.core.limits.base import Spent
from trainyard.core.limits.types import Amount, Passed, Reservation, Standing, Subject

IDLE_S = 300.0
"""After this long without a request an account is forgotten; quotas are loaded from the ledger again."""

_NOTHING = Amount()

_MAX_LOADS = 3
"""Periods that may pass while one request loads them; more is a clock that jumps."""


class Held(Reservation, kw_only=True):
    """A reservation with the counters that it stands in.

    Attributes:
        begun_s: Monotonic time.
        accounts: One per subject, with the second of each in which this work began.
    """

    begun_s: float
    accounts: list[Account]
    seconds: list[Second]


class Counted(Passed, kw_only=True):
    """A request that holds nothing; `begun_s` is when it was counted, monotonic."""

    begun_s: float


class MemoryLimiter:
    """Counts in the memory of this process; right while it is the only one that lets work in.

    Windows begin empty when the process does; quotas are in the ledger and outlive it.

    The check of all bars and the take are one step of the event loop: nothing can come between them. A new bar counts
    from the first request that sees it; concurrency, what running work holds, and quotas count what was there before.
    """

    def __init__(self, spent: Spent, clock: Clock, *, window_s: float) -> None:
        """Start with nothing counted; quotas are loaded when first asked for."""
        self._spent = spent
        self._clock = clock
        self._window_s = window_s
        self._accounts: dict[str, Account] = {}
        self._sweep_s = clock.monotonic() + IDLE_S
        self._id = f"rsv_{secrets.token_hex(8)}_".__add__
        self._numbers = count()

    async def reserve(self, subjects: Sequence[Subject], amount: Amount) -> Reservation:
        """Take one request, one place and the amount, of all subjects or of none; see `base.Limiter`."""
        clock = self._clock
        now_s, wall_s = clock.monotonic(), clock.now()
        accounts = self._found(subjects, now_s, wall_s)
        if accounts is None:
            accounts, now_s, wall_s = await self._loaded(subjects)
        self._check(accounts, amount, now_s, wall_s)
        seconds = [account.take(amount, now_s, int(wall_s)) for account in accounts]
        requests, tokens = self._standings(accounts, now_s)
        return Held(
            id=self._id(str(next(self._numbers))),
            subjects=tuple(subjects),
            amount=amount,
            requests=requests,
            tokens=tokens,
            begun_s=now_s,
            accounts=accounts,
            seconds=seconds,
        )

    async def settle(self, reservation: Reservation, used: Amount, *, at: float | None = None) -> None:
        """Count what was used, free what was held; see `base.Limiter`."""
        if not reservation.is_open:
            return
        assert isinstance(reservation, Held)
        reservation.is_open = False
        now_s = self._clock.monotonic()
        charged_at = self._clock.now() if at is None else at
        amount, seconds = reservation.amount, reservation.seconds
        for index, account in enumerate(reservation.accounts):
            account.settle(amount, used, seconds[index], now_s, charged_at)

    async def refund(self, reservation: Reservation) -> None:
        """Undo the reservation."""
        if not reservation.is_open:
            return
        assert isinstance(reservation, Held)
        reservation.is_open = False
        amount, begun_s = reservation.amount, reservation.begun_s
        for subject, account, begun in zip(
            reservation.subjects, reservation.accounts, reservation.seconds, strict=True
        ):
            account.refund(subject, amount, begun, begun_s)

    async def count(self, subjects: Sequence[Subject]) -> Passed:
        """Count one request that holds nothing; see `base.Limiter`."""
        passed = self.count_at_once(subjects)
        if passed is not None:
            return passed
        accounts, now_s, wall_s = await self._loaded(subjects)
        self._check(accounts, _NOTHING, now_s, wall_s)
        return self._counted(subjects, accounts, now_s)

    def count_at_once(self, subjects: Sequence[Subject]) -> Passed | None:
        """Count unless it is refused or has to wait; see `base.Limiter`."""
        clock, window_s = self._clock, self._window_s
        now_s = clock.monotonic()
        accounts = self._found(subjects, now_s, clock.now())
        if accounts is None:
            return None
        for account in accounts:
            if not account.admits(_NOTHING, now_s, window_s):
                return None
        return self._counted(subjects, accounts, now_s)

    def _counted(self, subjects: Sequence[Subject], accounts: list[Account], now_s: float) -> Counted:
        for account in accounts:
            if account.subject.limits.requests is not None:
                account.begun_s.append(now_s)
        requests, tokens = self._standings(accounts, now_s)
        return Counted(subjects=tuple(subjects), requests=requests, tokens=tokens, begun_s=now_s)

    async def uncount(self, passed: Passed) -> None:
        """Take back a request that was counted; see `base.Limiter`."""
        assert isinstance(passed, Counted)
        for subject in passed.subjects:
            account = self._accounts.get(subject.name)
            if account is not None:
                account.withdraw(subject, passed.begun_s)

    async def ping(self) -> None:
        """Return: memory is always there."""

    async def aclose(self) -> None:
        """End the loads that run."""
        used = [account.consumption for account in self._accounts.values()]
        tasks = [each.loading for each in used if each is not None and each.loading is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _found(self, subjects: Sequence[Subject], now_s: float, wall_s: float) -> list[Account] | None:
        """Look up the accounts of all subjects; None when the quota of one has to be loaded first."""
        found = []
        for subject in subjects:
            account = self._accounts.get(subject.name)
            if account is None:
                account = self._opened(subject.name, now_s, wall_s)
            account.touched_s = now_s  # at once: the next one may be opened, which forgets idle ones
            quota, used = subject.quota, account.consumption
            if (quota.tokens is not None or quota.cost_micros is not None) and (
                used is None or not used.is_loaded or not used.covers(quota, wall_s)
            ):
                return None
            account.subject = subject
            found.append(account)
        return found

    def _opened(self, name: str, now_s: float, wall_s: float) -> Account:
        if now_s >= self._sweep_s:
            self._sweep_s = now_s + IDLE_S
            idle_since_s = now_s - max(IDLE_S, self._window_s)
            for idle in [each for each, account in self._accounts.items() if account.is_idle(idle_since_s)]:
                del self._accounts[idle]
        account = self._accounts[name] = Account(Subject(name), wall_s)
        return account

    async def _loaded(self, subjects: Sequence[Subject]) -> tuple[list[Account], float, float]:
        """Load the quotas that are not known for the period of now, until all are."""
        for _ in range(_MAX_LOADS):
            now_s, wall_s = self._clock.monotonic(), self._clock.now()
            for subject in subjects:
                if self._found([subject], now_s, wall_s) is None:
                    await self._load(subject, self._accounts[subject.name], wall_s)
            now_s, wall_s = self._clock.monotonic(), self._clock.now()
            accounts = self._found(subjects, now_s, wall_s)
            if accounts is not None:
                return accounts, now_s, wall_s
        raise errors.Unavailable(
            "The period of a quota changes faster than it can be loaded", code="limiter_unavailable", retry_after_s=1
        )

    async def _load(self, subject: Subject, account: Account, wall_s: float) -> None:
        used = account.consumption
        if used is None or not used.covers(subject.quota, wall_s):
            until = account.open_period(subject.quota, wall_s)
            used = account.consumption
            if used is None or until is None:
                return
            used.loading = asyncio.create_task(self._fill(subject.name, account, used, until))
        if used.loading is not None:
            await asyncio.shield(used.loading)  # it serves all who wait for it, also when this one leaves

    async def _fill(self, name: str, account: Account, used: Consumption, until: float) -> None:
        try:
            base = await self._spent(name, used.period.since, until)
            used.add(base.tokens, base.cost_micros)
            used.is_loaded = True
        finally:
            used.loading = None
            if not used.is_loaded and account.consumption is used:
                account.consumption = None  # the next request tries again

    def _check(self, accounts: list[Account], amount: Amount, now_s: float, wall_s: float) -> None:
        """Raise unless all admit the amount."""
        window_s = self._window_s
        for account in accounts:
            if not account.admits(amount, now_s, window_s):
                found = [each for one in accounts for each in one.refusals(amount, now_s, wall_s, window_s)]
                raise refusals.error(found, amount, window_s)

    def _standings(self, accounts: list[Account], now_s: float) -> tuple[Standing | None, Standing | None]:
        """Tell the tightest standing with requests and with tokens."""
        window_s = self._window_s
        requests: Standing | None = None
        tokens: Standing | None = None
        for account in accounts:
            limits = account.subject.limits
            if limits.requests is not None:
                requests = refusals.tightest(requests, account.requests_standing(limits.requests, window_s))
            if limits.tokens is not None:
                tokens = refusals.tightest(tokens, account.tokens_standing(limits.tokens, now_s, window_s))
        return requests, tokens
