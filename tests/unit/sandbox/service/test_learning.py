"""Languages of boxes that are made of an image: a box tells them."""

import asyncio
import time
from collections.abc import Callable

import pytest

from tests.unit.sandbox.service.conftest import ANNA, Make
from trainyard.core import errors
from trainyard.sandbox.backends.box import RunnerBox
from trainyard.sandbox.backends.fake import FakeBackend
from trainyard.sandbox.languages import Languages, Reach
from trainyard.sandbox.types.domain import Execute
from trainyard.sandbox.types.orders import Flavor


class LateBackend(FakeBackend):
    """Its first box takes as long as the test wants."""

    def __init__(self) -> None:
        super().__init__(is_elsewhere=True)
        self.may_come = asyncio.Event()

    async def take(self, flavor: Flavor, tenant: str) -> RunnerBox:
        await self.may_come.wait()
        return await super().take(flavor, tenant)


class StumblingBackend(FakeBackend):
    """Fails once, as only a fault of its own would, when a box is taken."""

    stumbles = 1

    async def take(self, flavor: Flavor, tenant: str) -> RunnerBox:
        if self.stumbles:
            self.stumbles -= 1
            raise RuntimeError("unforeseen")
        return await super().take(flavor, tenant)


async def until(holds: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < ends_s
        await asyncio.sleep(0.05)


async def test_a_box_tells_what_this_machine_has_when_it_is_on_it() -> None:
    backend = FakeBackend()
    box = await backend.take("lean", "anna")
    told, seen = await Languages.of_box(box, 512 << 20), await Languages.discover(Reach(), 512 << 20)
    await backend.aclose()
    assert told.available() == seen.available()
    assert told.missing.keys() == seen.missing.keys()
    assert [told.find(one.code).prepare("x") for one in told.available() if one.code != "java"] == [
        seen.find(one.code).prepare("x") for one in seen.available() if one.code != "java"
    ]


async def test_what_a_box_tells_is_served_whatever_this_machine_has(make: Make) -> None:
    server = make(backend=FakeBackend(is_elsewhere=True))
    await server.service.start()
    await until(lambda: len(server.service.languages()) > 1)
    done = await server.service.execute(ANNA, Execute(code="echo hello", language="bash"), request_id="req_1")
    assert done.stdout == "hello\n"
    assert not server.service.boxes() or all(box.flavor == "lean" for box in server.service.boxes())


async def test_until_a_box_has_told_there_is_python_and_others_are_asked_to_wait(make: Make) -> None:
    backend = LateBackend()
    server = make(backend=backend)
    await server.service.start()
    assert [one.code for one in server.service.languages()] == ["py"]
    with pytest.raises(errors.Unavailable) as told:
        await server.service.execute(ANNA, Execute(code="echo", language="bash"), request_id="req_1")
    assert (told.value.code, told.value.retry_after_s) == ("sandbox_unavailable", 2)
    with pytest.raises(errors.InvalidRequest):
        await server.service.execute(ANNA, Execute(code="stop run", language="cobol"), request_id="req_2")
    backend.may_come.set()
    await until(lambda: len(server.service.languages()) > 1)


async def test_a_box_is_asked_again_whatever_went_wrong(make: Make) -> None:
    server = make(backend=StumblingBackend(is_elsewhere=True))
    await server.service.start()
    await until(lambda: len(server.service.languages()) > 1)


async def test_a_box_that_does_not_tell_is_asked_again_and_an_end_waits_for_none(make: Make) -> None:
    server = make(backend=FakeBackend(is_elsewhere=True, max_boxes=0))
    await server.service.start()
    await asyncio.sleep(0.2)
    assert [one.code for one in server.service.languages()] == ["py"]
    async with asyncio.timeout(2):
        await server.service.aclose()
