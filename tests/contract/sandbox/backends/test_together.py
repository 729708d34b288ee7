"""What may be asked while something runs, and many boxes at once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.contract.sandbox.backends.orders import pieces, put, read, run
from trainyard.sandbox.backends.base import Backend, Box

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_runs_of_one_box_follow_each_other(box: Box) -> None:
    await run(box, "order = []")

    await asyncio.gather(
        *(run(box, f"import time\norder.append({i})\ntime.sleep(0.01)\norder.append({i})") for i in range(5))
    )

    assert (await run(box, "print(order)")).stdout == b"[0, 0, 1, 1, 2, 2, 3, 3, 4, 4]\n"


async def test_usage_and_files_are_answered_while_code_runs(box: Box) -> None:
    await put(box, "a", b"x" * 100_000)
    running = asyncio.ensure_future(run(box, "import time\nwhile True: time.sleep(0.01)"))
    await asyncio.sleep(0.1)

    usage = await asyncio.wait_for(box.usage(), 5)
    content = await asyncio.wait_for(read(box, "a"), 5)
    await box.interrupt()
    await running

    assert usage.processes == 1
    assert usage.memory_bytes > 1 << 20
    assert content == b"x" * 100_000


async def test_two_readers_of_large_files_do_not_mix(box: Box) -> None:
    contents = [bytes([i]) * (6 << 20) for i in range(3)]
    for i, content in enumerate(contents):
        await put(box, str(i), content)

    assert await asyncio.gather(*(read(box, str(i)) for i in range(3))) == contents


async def test_a_reader_that_stops_holds_nothing_up(box: Box) -> None:
    await put(box, "large", bytes(9 << 20))
    reading = box.get("data", "large")
    await anext(reading)

    assert (await asyncio.wait_for(run(box, "print(1)"), 10)).stdout == b"1\n"
    assert len(await read(box, "large")) == 9 << 20


async def test_a_put_that_is_cancelled_leaves_nothing_and_the_box_well(box: Box) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * 1000
        await asyncio.sleep(100)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await box.put("data", "a", 2000, endless())

    assert (await run(box, "import os\nprint(os.listdir())")).stdout == b"[]\n"


async def test_many_runs_that_are_cancelled_at_any_moment_leave_the_box_well(box: Box) -> None:
    for at in range(12):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(at / 500):
                await run(box, "import time\ntime.sleep(100)")

    assert (await run(box, "print(1)")).stdout == b"1\n"
    assert (await box.usage()).processes == 1


async def test_boxes_know_nothing_of_each_other(backend: Backend) -> None:
    boxes = await asyncio.gather(*(backend.take("lean", f"tenant-{i}") for i in range(4)))
    try:
        await asyncio.gather(*(run(box, f"x = {i}\nopen('f', 'w').write('{i}')") for i, box in enumerate(boxes)))
        said = await asyncio.gather(*(run(box, "import os\nprint(x, open('f').read(), os.listdir())") for box in boxes))
        assert len({box.id for box in boxes}) == 4
        assert {box.id for box in boxes} <= {running.id for running in backend.running()}
    finally:
        await asyncio.gather(*(box.close() for box in boxes))

    assert [kept.stdout.decode() for kept in said] == [f"{i} {i} ['f']\n" for i in range(4)]
    assert not {box.id for box in boxes} & {running.id for running in backend.running()}


async def test_a_file_of_many_small_pieces_is_put_whole(box: Box) -> None:
    await box.put("data", "a", 10_000, pieces(b"0123456789" * 1000, 7))

    assert await read(box, "a") == b"0123456789" * 1000
