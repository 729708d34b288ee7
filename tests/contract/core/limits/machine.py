"""Random histories, told to a limiter and to the model; after every step both have to say the same."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, multiple, rule

from tests.contract.core.limits import stand as stands
from tests.contract.core.limits.model import Bar, Model, Work
from tests.contract.core.limits.stand import Stand
from trainyard.core import errors
from trainyard.core.limits.types import Amount, Limits, Passed, Quota, Reservation, Subject

Result = TypeVar("Result")
Written = tuple[Reservation, Work, Amount, float]

MONTH_END_S = 1_701_388_800.0
"""2023-12-01T00:00:00Z."""
_NAMES = ("key:a", "key:b", "tenant:t")
_limits = st.builds(
    Limits,
    requests=st.sampled_from([None, None, 3, 5, 8, 13] * 3 + [0]),
    tokens=st.sampled_from([None, None, 30, 50, 90, 150] * 3 + [0]),
    concurrency=st.sampled_from([None, None, 2, 4, 8] * 3 + [0]),
)
_quotas = st.builds(
    Quota,
    tokens=st.sampled_from([None, 0, 80, 150, 300, 500]),
    cost_micros=st.sampled_from([None, None, None, 0, 150, 400]),
    time_zone=st.sampled_from(["UTC", "UTC", "Asia/Tokyo"]),
    day=st.sampled_from([1, 1, 30]),
    reset_at=st.none() | st.integers(-20, 40).map(lambda s: MONTH_END_S + s),
)
_amounts = st.builds(Amount, tokens=st.sampled_from([0, 1, 7, 10, 19, 33]), cost_micros=st.sampled_from([0, 5, 30]))
_pauses = st.sampled_from([0.125, 0.375, 0.5, 1.0, 1.25, 3.0, 5.0, 9.875, 10.0, 30.0, 400.0])
_who = st.lists(st.sampled_from(_NAMES), min_size=1, max_size=3, unique=True)


class Machine(RuleBasedStateMachine):
    """Keys and a tenant; reserve, write, tell, refund, pass time, change bars."""

    running = Bundle("running")
    written = Bundle("written")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.model = Model(stands.WINDOW_S)
        self.subjects = {name: Subject(name) for name in _NAMES}
        self.ended: list[Reservation] = []

    def make(self, start: float) -> Stand:
        """Build what is tested, with its clock at a moment."""
        raise NotImplementedError

    def run_now(self, step: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(step)

    @initialize(lead_s=st.integers(1, 80).map(lambda quarters: quarters / 4))
    def begin(self, lead_s: float) -> None:
        self.stand = self.make(MONTH_END_S - lead_s)

    @rule(name=st.sampled_from(_NAMES), limits=_limits)
    def change_limits(self, name: str, limits: Limits) -> None:
        self.subjects[name] = Subject(name, limits, self.subjects[name].quota)

    @rule(name=st.sampled_from(_NAMES), quota=_quotas)
    def change_quota(self, name: str, quota: Quota) -> None:
        self.subjects[name] = Subject(name, self.subjects[name].limits, quota)

    @rule(seconds=_pauses)
    def pass_time(self, seconds: float) -> None:
        self.stand.clock.advance(seconds)

    @rule(target=running, who=_who, amount=_amounts, count=st.integers(1, 4))
    def reserve(self, who: list[str], amount: Amount, count: int) -> Any:
        return multiple(*[made for made in [self.try_once(who, amount) for _ in range(count)] if made is not None])

    @rule(who=_who, amount=_amounts, share=st.sampled_from([0.0, 0.5, 1.0, 1.5]))
    def work(self, who: list[str], amount: Amount, share: float) -> None:
        made = self.try_once(who, amount)
        if made is not None:
            self.end(self.book(made, Amount(int(amount.tokens * share), int(amount.cost_micros * share))))

    @rule(who=_who, count=st.integers(1, 4), is_taken_back=st.booleans())
    def hit(self, who: list[str], count: int, is_taken_back: bool) -> None:
        """What is there already: the same bars as for work without an amount, and nothing that runs."""
        clock, subjects = self.stand.clock, tuple(self.subjects[name] for name in who)
        for _ in range(count):
            bars = self.model.in_the_way(subjects, Amount(), clock.monotonic(), clock.now())
            self.model.see(subjects)
            try:
                passed = self.run_now(self.stand.limiter.count(subjects))
            except errors.TrainyardError as error:
                self.check_refusal(error, bars, subjects, Amount())
                return
            assert not bars
            self.check_standings(passed, subjects)
            work = Work(clock.monotonic(), subjects, Amount(), is_refunded=is_taken_back)
            self.model.works.append(work)
            if is_taken_back:
                self.run_now(self.stand.limiter.uncount(passed))
            else:
                self.model.settle(work, Amount(), clock.monotonic(), clock.now())

    def try_once(self, who: list[str], amount: Amount) -> tuple[Reservation, Work] | None:
        clock, subjects = self.stand.clock, tuple(self.subjects[name] for name in who)
        bars = self.model.in_the_way(subjects, amount, clock.monotonic(), clock.now())
        self.model.see(subjects)
        try:
            reservation = self.run_now(self.stand.limiter.reserve(subjects, amount))
        except errors.TrainyardError as error:
            self.check_refusal(error, bars, subjects, amount)
            return None
        assert not bars
        self.check_standings(reservation, subjects)
        work = Work(clock.monotonic(), subjects, amount)
        self.model.works.append(work)
        return reservation, work

    @rule(target=written, pair=consumes(running), tokens=st.integers(0, 40), cost=st.integers(0, 40))
    def write(self, pair: tuple[Reservation, Work], tokens: int, cost: int) -> Written:
        """The ledger has it; the limiter does not know yet, and a quota may be loaded in between."""
        return self.book(pair, Amount(tokens, cost))

    @rule(told=consumes(written))
    def tell(self, told: Written) -> None:
        self.end(told)

    @rule(pair=consumes(running))
    def refund(self, pair: tuple[Reservation, Work]) -> None:
        self.run_now(self.stand.limiter.refund(pair[0]))
        pair[1].is_refunded = True
        self.ended.append(pair[0])

    def book(self, pair: tuple[Reservation, Work], used: Amount) -> Written:
        at = self.stand.clock.now()
        self.stand.books.write(at, [each.name for each in pair[0].subjects], used)
        return pair[0], pair[1], used, at

    def end(self, told: Written) -> None:
        reservation, work, used, at = told
        self.run_now(self.stand.limiter.settle(reservation, used, at=at))
        self.model.settle(work, used, self.stand.clock.monotonic(), at)
        self.ended.append(reservation)

    @rule()
    def end_again(self) -> None:
        for reservation in self.ended[-2:]:
            assert not reservation.is_open
            self.run_now(self.stand.limiter.settle(reservation, Amount(7, 7)))
            self.run_now(self.stand.limiter.refund(reservation))

    def check_refusal(
        self, error: errors.TrainyardError, bars: list[Bar], subjects: tuple[Subject, ...], amount: Amount
    ) -> None:
        if self.model.never(subjects, amount) and any(bar.dimension not in ("quota", "cost") for bar in bars):
            named = [
                bar for bar in bars if (bar.scope, bar.dimension) == (error.data["scope"], error.data["dimension"])
            ]
            if error.code == "request_exceeds_limit":
                assert isinstance(error, errors.InvalidRequest)
                assert named
                return
        named = [bar for bar in bars if _is_named(bar, error)]
        assert named, (error.data, bars)
        (bar,) = named
        if isinstance(error, errors.QuotaExhausted):
            assert (error.data["used"], error.data["held"]) == (bar.used, bar.held)
        else:
            assert isinstance(error, errors.LimitReached)
            assert error.data["remaining"] == max(0, bar.limit - bar.used - bar.held)
            assert not [each for each in bars if each.dimension in ("quota", "cost")], "quotas come first"
        self.check_wait(error, subjects, amount)

    def check_wait(self, error: errors.TrainyardError, subjects: tuple[Subject, ...], amount: Amount) -> None:
        """After the wait the same call passes, if nothing else happens; a moment earlier it does not."""
        clock, wait_s = self.stand.clock, error.retry_after_s

        def blocked(later_s: float) -> list[Bar]:
            return self.model.in_the_way(subjects, amount, clock.monotonic() + later_s, clock.now() + later_s)

        if wait_s is None:
            assert any(bar.asked > bar.limit for bar in blocked(0))
            return
        left = blocked(wait_s)
        if not left:
            assert wait_s == 1.0 or blocked(wait_s - 0.003)
        else:  # only running work is in the way: nobody knows when it ends
            assert wait_s >= 1.0
            assert all(bar.held and bar.asked <= bar.limit for bar in left)

    def check_standings(self, passed: Passed, subjects: tuple[Subject, ...]) -> None:
        assert (passed.requests is None) == all(each.limits.requests is None for each in subjects)
        assert (passed.tokens is None) == all(each.limits.tokens is None for each in subjects)
        for standing in (passed.requests, passed.tokens):
            if standing is not None:
                assert 0 <= standing.remaining <= standing.limit
                assert 0 <= standing.reset_s <= stands.WINDOW_S

    def teardown(self) -> None:
        if hasattr(self, "stand"):
            self.run_now(self.stand.close())
        self.loop.close()


def _is_named(bar: Bar, error: errors.TrainyardError) -> bool:
    dimension = bar.dimension
    if isinstance(error, errors.QuotaExhausted):
        dimension = {"quota": "tokens", "cost": "cost"}.get(dimension, "")
    elif dimension in ("quota", "cost"):
        return False
    return (bar.scope, dimension, bar.limit) == (error.data["scope"], error.data["dimension"], error.data["limit"])
