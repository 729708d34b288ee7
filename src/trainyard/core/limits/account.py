"""What one subject holds and has used, in the memory of this process."""

import asyncio
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator

from trainyard.core.limits import periods, refusals
from trainyard.core.limits.refusals import Refusal
from trainyard.core.limits.types import Amount, Quota, Standing, Subject


class Second:
    """What was settled with a ledger time in one second, and how much work that began in it still runs.

    Attributes:
        number: Unix seconds.
    """

    __slots__ = ("cost_micros", "number", "running", "tokens")

    def __init__(self, number: int) -> None:
        self.number = number
        self.running = 0
        self.tokens = 0
        self.cost_micros = 0


class Consumption:
    """What was charged in one period of a quota; not to be read before `is_loaded`.

    Attributes:
        quota: Whose zone, day and `reset_at` gave the period.
        told_until: What has an earlier ledger time is told by the ledger.
        loading: Adds what the ledger has; None where nothing had to be loaded.
    """

    __slots__ = ("cost_micros", "is_loaded", "loading", "period", "quota", "tokens", "told_until")

    def __init__(self, quota: Quota, period: periods.Period, told_until: float) -> None:
        self.quota = quota
        self.period = period
        self.told_until = told_until
        self.is_loaded = False
        self.loading: asyncio.Task[None] | None = None
        self.tokens = 0
        self.cost_micros = 0

    def add(self, tokens: int, cost_micros: int) -> None:
        """Count what was charged."""
        self.tokens += tokens
        self.cost_micros += cost_micros

    def covers(self, quota: Quota, wall_s: float) -> bool:
        """Tell whether this is the period of a moment by a quota, whatever its bars."""
        ours = self.quota
        is_same = quota is ours or (
            quota.time_zone == ours.time_zone and quota.day == ours.day and quota.reset_at == ours.reset_at
        )
        return is_same and self.period.since <= wall_s < self.period.until


class Account:
    """The counters of one subject; whoever uses them sees to it that nothing comes between a check and its take.

    The sum for a period is `ledger before T` + `seconds from T on`, where T is the begin of the oldest work that still
    runs (or now): work that ended is in the ledger, for it is written there before it is settled, and work that runs
    will have a later ledger time. So a sum loaded at any time, while work begins and settles, has everything once.

    Attributes:
        complete_since: Unix seconds; `seconds` has all that was settled with a ledger time from here on.
        touched_s: Monotonic time of the last request or settlement.
        subject: With its bars as the last request had them.
        begun_s: Monotonic times of the requests in the window, oldest first.
        settled_s: Monotonic times of what was settled in the window, with `settled` its tokens, oldest first.
        seconds: Of all work that may be younger than T, oldest first.
    """

    __slots__ = (
        "begun_s",
        "complete_since",
        "consumption",
        "held_cost_micros",
        "held_tokens",
        "running",
        "seconds",
        "settled",
        "settled_s",
        "settled_tokens",
        "subject",
        "touched_s",
    )

    def __init__(self, subject: Subject, created_at: float) -> None:
        self.subject = subject
        self.complete_since = created_at
        self.touched_s = 0.0
        self.begun_s: deque[float] = deque()
        self.settled_s: deque[float] = deque()
        self.settled: deque[int] = deque()
        self.settled_tokens = 0
        self.running = 0
        self.held_tokens = 0
        self.held_cost_micros = 0
        self.seconds: deque[Second] = deque()
        self.consumption: Consumption | None = None

    def admits(self, amount: Amount, now_s: float, window_s: float) -> bool:
        """Tell whether a request passes every bar, and forget what has left the window."""
        limits = self.subject.limits
        if limits.concurrency is not None and self.running >= limits.concurrency:
            return False
        if limits.requests is not None:
            begun_s = self.begun_s
            while begun_s and begun_s[0] + window_s <= now_s:
                begun_s.popleft()
            if len(begun_s) >= limits.requests:
                return False
        tokens = amount.tokens
        if limits.tokens is not None:
            settled_s = self.settled_s
            while settled_s and settled_s[0] + window_s <= now_s:
                settled_s.popleft()
                self.settled_tokens -= self.settled.popleft()
            if tokens and self.settled_tokens + self.held_tokens + tokens > limits.tokens:
                return False
        used = self.consumption
        return used is None or self._is_within_quota(self.subject.quota, used, amount)

    def _is_within_quota(self, quota: Quota, used: Consumption, amount: Amount) -> bool:
        tokens, cost_micros = amount.tokens, amount.cost_micros
        if quota.tokens is not None and tokens and used.tokens + self.held_tokens + tokens > quota.tokens:
            return False
        return not (
            quota.cost_micros is not None
            and cost_micros
            and used.cost_micros + self.held_cost_micros + cost_micros > quota.cost_micros
        )

    def take(self, amount: Amount, now_s: float, second: int) -> Second:
        """Count a request that was let in; returns the second that has to be given back at its end."""
        if self.subject.limits.requests is not None:
            self.begun_s.append(now_s)
        self.running += 1
        self.held_tokens += amount.tokens
        self.held_cost_micros += amount.cost_micros
        seconds = self.seconds
        begun = seconds[-1] if seconds and seconds[-1].number == second else self._second(second)
        begun.running += 1
        return begun

    def settle(self, held: Amount, used: Amount, begun: Second, now_s: float, at: float) -> None:
        """Count what was used and free what was held; `at` is the ledger's time."""
        self.touched_s = now_s
        self._let_go(held, begun)
        tokens, cost_micros = used.tokens, used.cost_micros
        if tokens and self.subject.limits.tokens is not None:
            self.settled_s.append(now_s)
            self.settled.append(tokens)
            self.settled_tokens += tokens
        seconds, number = self.seconds, int(at)
        charged = seconds[-1] if seconds[-1].number == number else self._second(number)
        charged.tokens += tokens
        charged.cost_micros += cost_micros
        consumption = self.consumption
        if consumption is not None and consumption.period.since <= at < consumption.period.until:
            if at >= consumption.told_until:
                consumption.add(tokens, cost_micros)
            else:  # a clock that went back: the ledger may have told it already or not, so it is asked again
                self.consumption = None
        if len(seconds) > 1:
            self._forget_seconds()

    def refund(self, subject: Subject, held: Amount, begun: Second, begun_s: float) -> None:
        """Undo `take`; the request leaves the window too."""
        self._let_go(held, begun)
        self.withdraw(subject, begun_s)

    def withdraw(self, subject: Subject, begun_s: float) -> None:
        """Have a request that was let in with these bars leave the window."""
        if subject.limits.requests is None:
            return
        index = bisect_left(self.begun_s, begun_s)
        if index < len(self.begun_s) and self.begun_s[index] == begun_s:  # else it has left the window already
            del self.begun_s[index]

    def open_period(self, quota: Quota, wall_s: float) -> float | None:
        """Begin to count the period of a moment; returns until when the ledger has to be asked, None if it has not."""
        period = periods.period_at(quota, wall_s)
        oldest = next((each.number for each in self.seconds if each.running), math.floor(wall_s))
        border = max(self.complete_since, oldest)
        consumption = self.consumption = Consumption(quota, period, border)
        for each in self.seconds:
            if each.number >= math.floor(border) and period.since <= each.number < period.until:
                consumption.add(each.tokens, each.cost_micros)
        consumption.is_loaded = border <= period.since
        return None if consumption.is_loaded else border

    def refusals(self, amount: Amount, now_s: float, wall_s: float, window_s: float) -> list[Refusal]:
        """Tell every bar that a request does not pass."""
        self._tidy(now_s, window_s)
        found = [*self._window_refusals(self.subject, amount, now_s, window_s)]
        consumption, subject = self.consumption, self.subject
        quota = subject.quota
        if consumption is None:
            return found
        bars: tuple[tuple[refusals.Dimension, int | None, int, int, int], ...] = (
            ("quota_tokens", quota.tokens, consumption.tokens, self.held_tokens, amount.tokens),
            ("quota_cost", quota.cost_micros, consumption.cost_micros, self.held_cost_micros, amount.cost_micros),
        )
        for dimension, limit, used, held, asked in bars:
            if limit is not None and asked and used + held + asked > limit:
                until = consumption.period.until
                found.append(refusals.quota(subject.name, dimension, limit, used, held, asked, until, wall_s))
        return found

    def _window_refusals(self, subject: Subject, amount: Amount, now_s: float, window_s: float) -> Iterator[Refusal]:
        limits, tokens = subject.limits, amount.tokens
        if limits.concurrency is not None and self.running >= limits.concurrency:
            wait_s = refusals.BUSY_RETRY_S if limits.concurrency else None
            yield Refusal(subject.name, "concurrency", limits.concurrency, 0, self.running, wait_s)
        count = len(self.begun_s)
        if limits.requests is not None and count >= limits.requests:
            leaves_s = self.begun_s[count - limits.requests] + window_s if limits.requests else None
            wait_s = None if leaves_s is None else refusals.retry_after_s(leaves_s - now_s)
            yield Refusal(subject.name, "requests", limits.requests, count, 0, wait_s)
        if limits.tokens is not None and tokens and self.settled_tokens + self.held_tokens + tokens > limits.tokens:
            wait_s = self._tokens_wait_s(limits.tokens, tokens, now_s, window_s)
            yield Refusal(subject.name, "tokens", limits.tokens, self.settled_tokens, self.held_tokens, wait_s)

    def _tokens_wait_s(self, limit: int, tokens: int, now_s: float, window_s: float) -> float | None:
        if tokens > limit:
            return None
        missing = self.settled_tokens + self.held_tokens + tokens - limit
        for settled_s, settled in zip(self.settled_s, self.settled, strict=True):
            missing -= settled
            if missing <= 0:
                return refusals.retry_after_s(settled_s + window_s - now_s)
        return refusals.BUSY_RETRY_S

    def requests_standing(self, limit: int, window_s: float) -> Standing:
        """Tell what is left of the request bar, after a take."""
        return Standing(limit, limit - len(self.begun_s), window_s)

    def tokens_standing(self, limit: int, now_s: float, window_s: float) -> Standing:
        """Tell what is left of the token bar, after a take."""
        reset_s = window_s if self.held_tokens else self.settled_s[-1] + window_s - now_s if self.settled_s else 0.0
        return Standing(limit, max(0, limit - self.settled_tokens - self.held_tokens), reset_s)

    def is_idle(self, since_s: float) -> bool:
        """Tell whether nothing would be lost with this account."""
        is_loading = self.consumption is not None and not self.consumption.is_loaded
        return not self.running and self.touched_s < since_s and not is_loading

    def _tidy(self, now_s: float, window_s: float) -> None:
        """Forget what has left the window; `admits` stops at the first bar in the way."""
        while self.begun_s and self.begun_s[0] + window_s <= now_s:
            self.begun_s.popleft()
        while self.settled_s and self.settled_s[0] + window_s <= now_s:
            self.settled_s.popleft()
            self.settled_tokens -= self.settled.popleft()

    def _let_go(self, held: Amount, begun: Second) -> None:
        self.running -= 1
        self.held_tokens -= held.tokens
        self.held_cost_micros -= held.cost_micros
        begun.running -= 1

    def _second(self, number: int) -> Second:
        """Find a second that is not the newest, or make it; the order is kept, also by a clock that went back."""
        index = len(self.seconds)
        while index and self.seconds[index - 1].number > number:
            index -= 1
        if index and self.seconds[index - 1].number == number:
            return self.seconds[index - 1]
        made = Second(number)
        self.seconds.insert(index, made)
        return made

    def _forget_seconds(self) -> None:
        """Drop what is older than all work that runs: the ledger has it for good."""
        seconds = self.seconds
        while len(seconds) > 1 and not seconds[0].running:
            self.complete_since = max(self.complete_since, seconds.popleft().number + 1)
