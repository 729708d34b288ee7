import asyncio
import gc
import logging
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

import pytest

from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.http.auth import KeyChecker
from trainyard.core.http.health import Readiness
from trainyard.core.http.sharing import Shared
from trainyard.core.keys import APIKeyManager

Params = ParamSpec("Params")
Result = TypeVar("Result")


class Asked:
    """Counts how often it is asked, and answers when it may."""

    def __init__(self) -> None:
        self.times = 0
        self.may_answer = asyncio.Event()

    async def __call__(self) -> int:
        self.times += 1
        await self.may_answer.wait()
        if self.times == 3:
            raise ZeroDivisionError
        return self.times


async def test_those_who_ask_at_the_same_time_get_one_answer_and_later_ones_a_new_one() -> None:
    asked = Asked()
    shared = Shared(asked)
    crowd = [asyncio.create_task(shared()) for _ in range(5)]
    await asyncio.sleep(0)
    crowd[0].cancel()  # also the one that began it
    await asyncio.sleep(0)
    asked.may_answer.set()
    assert await asyncio.gather(*crowd[1:]) == [1] * 4
    assert await shared() == 2
    failed = await asyncio.gather(shared(), shared(), return_exceptions=True)
    assert [type(error) for error in failed] == [ZeroDivisionError] * 2
    assert asked.times == 3


async def test_a_failure_that_nobody_waits_for_is_no_noise(caplog: pytest.LogCaptureFixture) -> None:
    asked = Asked()
    asked.times = 2
    shared = Shared(asked)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await shared()
    asked.may_answer.set()
    await asyncio.sleep(0.01)
    del shared
    gc.collect()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


class CountingDatabase(Database):
    """Counts the readings in the event loop, and the calls into its threads."""

    firsts = calls = 0

    async def first(self, sql: str, **values: object) -> Mapping[str, Any] | None:
        self.firsts += 1
        return await super().first(sql, **values)

    async def call(self, function: Callable[Params, Result], /, *args: Params.args, **kwargs: Params.kwargs) -> Result:
        self.calls += 1
        return await super().call(function, *args, **kwargs)


async def test_a_crowd_with_keys_costs_one_reading_of_the_database(database: Database, clock: FakeClock) -> None:
    counting = CountingDatabase(str(database.engine.url))
    keys = APIKeyManager(counting, b"pepper", clock)
    key = keys.generate_key("ada")
    clock.advance(1)
    checker = KeyChecker(keys, counting)
    assert checker.recognise(key) is None
    found = await asyncio.gather(*(checker.check(key) for _ in range(20)))
    assert {principal.user for principal in found} == {"ada"}
    assert (counting.firsts, counting.calls) == (1, 0)
    assert checker.recognise(key) == found[0]
    APIKeyManager(database, b"pepper", clock).revoke_key(key)
    clock.advance(1)
    lost = await asyncio.gather(*(checker.check(key) for _ in range(20)), return_exceptions=True)
    assert [type(each) for each in lost] == [errors.Unauthenticated] * 20
    assert (counting.firsts, counting.calls) == (2, 1)
    counting.close()


async def test_a_crowd_of_strangers_costs_one_probe() -> None:
    asked = Asked()
    asked.may_answer.set()
    readiness = Readiness()
    readiness.register("engine", asked)
    answers = await asyncio.gather(*(readiness.check() for _ in range(20)))
    assert answers == [{"engine": {"ok": True}}] * 20
    assert asked.times == 1
