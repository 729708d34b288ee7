"""Who gets which box, and when new ones are made."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract.sandbox.backends.local.grounds import Grounds, grounds
from tests.contract.sandbox.backends.local.host import until
from tests.contract.sandbox.backends.orders import run
from trainyard.core import errors
from trainyard.core.settings import SandboxSettings, Settings

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def two(tmp_path: Path) -> AsyncIterator[Grounds]:
    """At most two boxes, one of them ready."""
    settings = Settings(data_dir=tmp_path / "data", sandbox=SandboxSettings(warm=1, max_boxes=2))
    async with grounds(tmp_path, settings, take_s=5.0) as made:
        await until(lambda: len(made.backend.running()) == 1, "no box became ready")
        yield made


def ready(ground: Grounds) -> int:
    return sum(not each.is_taken for each in ground.backend.running())


async def test_a_box_that_was_made_ready_counts_as_fresh_and_its_first_cell_is_the_first(two: Grounds) -> None:
    box = await two.backend.take("lean", "tenant")

    kept = await run(box, "1 / 0")

    assert b'File "<cell 1>"' in kept.stderr
    assert (await run(await two.backend.take("lean", "tenant"), "print(1)")).report.is_fresh


async def test_a_box_is_given_to_one_caller_alone(two: Grounds) -> None:
    boxes = await asyncio.gather(*(two.backend.take("lean", "tenant") for _ in range(2)))

    assert len({box.id for box in boxes}) == 2


async def test_a_box_that_comes_when_its_caller_has_gone_is_for_the_next(two: Grounds) -> None:
    first, second = [await two.backend.take("lean", "tenant") for _ in range(2)]
    gone = [asyncio.ensure_future(two.backend.take("lean", "tenant")) for _ in range(3)]
    await asyncio.sleep(0)
    for caller in gone:
        caller.cancel()
    await asyncio.gather(*gone, return_exceptions=True)

    await first.close()
    third = await two.backend.take("lean", "tenant")

    assert (await run(third, "print(1)")).stdout == b"1\n"
    await asyncio.gather(second.close(), third.close())
    await until(lambda: ready(two) == 1, "the pool is not full")


async def test_callers_wait_for_a_place_and_are_served_in_turn(two: Grounds) -> None:
    first, second = [await two.backend.take("lean", "tenant") for _ in range(2)]
    order: list[int] = []

    async def take(number: int) -> None:
        box = await two.backend.take("lean", "tenant")
        order.append(number)
        await box.close()

    waiting = [asyncio.ensure_future(take(number)) for number in range(4)]
    await asyncio.sleep(0.05)
    assert order == []
    await asyncio.gather(first.close(), second.close())
    await asyncio.gather(*waiting)

    assert order == [0, 1, 2, 3]


async def test_the_pool_is_filled_again_while_a_run_goes_on_but_slowly(two: Grounds) -> None:
    box = await two.backend.take("lean", "tenant")
    running = asyncio.ensure_future(run(box, "import time; time.sleep(1.5)"))

    await until(lambda: ready(two) == 1, "the pool starves")

    assert not running.done()
    await running


async def test_a_science_box_without_packages_is_a_lean_one(two: Grounds) -> None:
    box = await two.backend.take("science", "tenant")

    assert box.id.startswith("lean-")
    assert (await run(box, "import numpy")).report.exit_code == 1


async def test_ping_finds_the_zygote(two: Grounds) -> None:
    await two.backend.ping()

    await two.supervisor.stop(two.zygote().name)

    with pytest.raises(errors.Unavailable):
        await two.backend.ping()
