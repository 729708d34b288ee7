"""How boxes end, and that nothing of them is left."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract.sandbox.backends.local.grounds import Grounds, grounds
from tests.contract.sandbox.backends.local.host import (
    FORKING,
    GONE_S,
    descriptors_of,
    groups_of,
    is_there,
    tree_of,
    until,
    until_forked,
    until_gone,
)
from tests.contract.sandbox.backends.orders import run
from trainyard.core import errors
from trainyard.core.processes import ChildState
from trainyard.core.settings import SandboxSettings, Settings
from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.backends.local import LocalBackend

pytestmark = pytest.mark.asyncio(loop_scope="session")
ROOT = Path(__file__).parents[5]


@pytest_asyncio.fixture(loop_scope="session")
async def small(tmp_path: Path) -> AsyncIterator[Grounds]:
    """Zygotes for one test alone, which it may kill."""
    settings = Settings(data_dir=tmp_path / "data", sandbox=SandboxSettings(warm=1, max_boxes=3))
    async with grounds(tmp_path, settings, take_s=2.0) as made:
        yield made


def pid_of(ground: Grounds, box: Box) -> int:
    found = next(running.pid for running in ground.backend.running() if running.id == box.id)
    assert found is not None
    return found


async def test_a_closed_box_is_gone_with_every_process_when_close_returns(ground: Grounds) -> None:
    box = await ground.backend.take("lean", "tenant")
    running = asyncio.ensure_future(run(box, FORKING))
    await until_forked(box)
    pids = tree_of(pid_of(ground, box))

    await box.close()

    assert len(pids) >= 7
    assert [pid for pid in pids if is_there(pid)] == []
    assert box.id not in [each.id for each in ground.backend.running()]
    with pytest.raises(errors.Unavailable, match="has ended"):
        await running


async def test_closing_twice_does_nothing(ground: Grounds) -> None:
    box = await ground.backend.take("lean", "tenant")
    await box.close()

    await box.close()

    assert not box.is_alive


async def test_a_box_whose_process_1_is_killed_is_gone(ground: Grounds) -> None:
    box = await ground.backend.take("lean", "tenant")
    os.kill(pid_of(ground, box), signal.SIGKILL)

    with pytest.raises(errors.Unavailable) as raised:
        await run(box, "while True: pass")

    assert raised.value.code == "box_gone"
    await until(lambda: box.id not in [each.id for each in ground.backend.running()], "it is still listed")
    await box.close()


async def test_a_ready_box_that_has_ended_is_not_given_out(ground: Grounds) -> None:
    await until(lambda: any(not each.is_taken for each in ground.backend.running()), "no box became ready")
    pids = [each.pid for each in ground.backend.running() if each.pid is not None]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    while any(map(is_there, pids)):
        time.sleep(0.01)  # noqa: ASYNC251 - the backend is not to hear of it before it is asked

    box = await ground.backend.take("lean", "tenant")

    assert (await run(box, "print(1)")).stdout == b"1\n"
    await box.close()


async def test_control_groups_go_with_their_boxes(ground: Grounds) -> None:
    zygote = ground.zygote().pid
    assert zygote is not None
    box = await ground.backend.take("lean", "tenant")
    mine = [
        path for path in groups_of(zygote) if str(pid_of(ground, box)) in (path / "cgroup.procs").read_text().split()
    ]

    await box.close()

    assert bool(mine) == {layer.name: layer.is_held for layer in ground.backend.layers()}["cgroup"]
    await until(lambda: not any(path.exists() for path in mine), f"{mine} is still there")


async def test_boxes_outlive_the_zygote_and_a_new_one_makes_more(small: Grounds) -> None:
    box = await small.backend.take("lean", "tenant")
    await run(box, "x = 41")
    before = small.zygote()
    assert before.pid is not None

    os.kill(before.pid, signal.SIGKILL)
    await until(lambda: small.zygote().pid not in (None, before.pid), "no new zygote")
    await small.supervisor.wait_for(before.name, {ChildState.READY})

    assert (await run(box, "print(x + 1)")).stdout == b"42\n"
    taken = [await small.backend.take("lean", "tenant") for _ in range(2)]
    assert [(await run(each, "print(1)")).stdout for each in taken] == [b"1\n", b"1\n"]
    for each in (box, *taken):
        await each.close()


async def test_what_a_killed_zygote_leaves_is_removed_by_the_next(small: Grounds) -> None:
    box = await small.backend.take("lean", "tenant")
    before = small.zygote()
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    elders = {running.id for running in small.backend.running()}
    await box.close()

    await until(lambda: small.zygote().pid not in (None, before.pid), "no new zygote")
    while elders & {running.id for running in small.backend.running()}:  # warm ones outlive it, and are given out first
        await (await small.backend.take("lean", "tenant")).close()

    await until(lambda: groups_of(before.pid or 0) == [], "groups of the dead zygote are still there")


async def test_more_boxes_than_the_limit_are_refused(small: Grounds) -> None:
    taken = [await small.backend.take("lean", "tenant") for _ in range(3)]

    with pytest.raises(errors.Unavailable) as raised:
        await small.backend.take("lean", "tenant")

    assert raised.value.code == "sandbox_unavailable"
    for box in taken:
        await box.close()
    again = await small.backend.take("lean", "tenant")
    await again.close()


async def test_without_a_zygote_no_box_is_to_be_had(tmp_path: Path) -> None:
    backend = LocalBackend(SandboxSettings(), tmp_path, has_packages=False)

    with pytest.raises(errors.Unavailable) as raised:
        await backend.ping()

    assert raised.value.code == "sandbox_unavailable"


async def test_boxes_made_and_ended_leave_no_descriptor(ground: Grounds) -> None:
    zygote = ground.zygote().pid
    await (await ground.backend.take("lean", "tenant")).close()
    await until(lambda: sum(not each.is_taken for each in ground.backend.running()) == 2, "the pool is not full")
    before = [descriptors_of(pid) for pid in (None, zygote)]

    for _ in range(10):
        await (await ground.backend.take("lean", "tenant")).close()
    await until(lambda: sum(not each.is_taken for each in ground.backend.running()) == 2, "the pool is not full")

    await until(lambda: [descriptors_of(pid) for pid in (None, zygote)] <= before, "descriptors are left")


async def test_the_end_of_the_backend_is_the_end_of_its_boxes(small: Grounds) -> None:
    box = await small.backend.take("lean", "tenant")
    pids = set().union(*(tree_of(each.pid or 0) for each in small.backend.running()))

    await small.backend.aclose()

    assert not any(map(is_there, pids))
    assert not box.is_alive
    assert small.backend.running() == []


def started(*arguments: Path) -> "tuple[subprocess.Popen[str], dict[str, list[int]]]":
    module = "tests.contract.sandbox.backends.local.server"
    process = subprocess.Popen(
        [sys.executable, "-m", module, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as told:
        line = told.readline()
    if not line:
        process.wait()
    return process, json.loads(line)


async def test_boxes_end_with_the_server_process_that_has_them(ground: Grounds, tmp_path: Path) -> None:
    process, pids = await asyncio.to_thread(started, tmp_path, ground.sockets)
    every = set().union(*map(tree_of, pids["boxes"]))
    assert len(every) >= 7

    process.kill()
    process.wait(GONE_S)

    await until_gone(every)


async def test_nothing_is_left_when_the_supervisor_is_killed(ground: Grounds, tmp_path: Path) -> None:
    process, pids = await asyncio.to_thread(started, tmp_path)
    every = set().union(*map(tree_of, [*pids["zygotes"], *pids["boxes"]]))
    assert len(every) >= 8

    process.kill()
    process.wait(GONE_S)

    await until_gone(every)
    await until(lambda: not any(map(groups_of, pids["zygotes"])), "control groups are left")


async def test_a_living_box_costs_its_zygote_no_descriptor(small: Grounds) -> None:
    await until(lambda: len(small.backend.running()) == 1, "no box became ready")
    before = descriptors_of(small.zygote().pid)

    boxes = [await small.backend.take("lean", "tenant") for _ in range(3)]
    await until(lambda: descriptors_of(small.zygote().pid) == before, "descriptors stay open")

    await asyncio.gather(*(box.close() for box in boxes))
