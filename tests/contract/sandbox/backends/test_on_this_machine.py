"""What boxes of this machine hold besides; a fake cluster has neither a network nor user ids of its own to show it."""

import asyncio
import os
import socket

import pytest

from tests.contract.sandbox.backends.attempts import NO_WAY_OUT, printed, refusal
from tests.contract.sandbox.backends.local.host import is_there, owner_of, tree_of, until
from tests.contract.sandbox.backends.orders import run
from trainyard.core import errors
from trainyard.sandbox.backends.base import Backend, Box

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.parametrize("backend", ["bubblewrap", "local"], indirect=True, scope="session"),
]


async def test_no_abstract_socket_of_this_machine_is_reached(cell: Box) -> None:
    name = f"\0trainyard-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(name)
        opened.listen()

        said = await printed(cell, refusal(f"socket.socket(socket.AF_UNIX).connect({name!r})", "socket"))

    assert int(said) in NO_WAY_OUT


async def test_no_process_of_a_box_is_root_here_and_all_end_with_it(backend: Backend) -> None:
    box = await backend.take("lean", "tenant")
    pid = next(each.pid for each in backend.running() if each.id == box.id)
    assert pid is not None
    await run(box, "x = 1")
    pids = tree_of(pid)

    owners = {owner_of(each) for each in pids}
    await box.close()

    assert len(pids) >= 2
    assert os.getuid() != 0 or 0 not in owners
    assert not any(map(is_there, pids))


async def test_a_box_whose_process_1_is_killed_is_gone(backend: Backend) -> None:
    box = await backend.take("lean", "tenant")
    running = asyncio.ensure_future(run(box, "import time\ntime.sleep(100)"))
    await box.usage()
    os.kill(next(each.pid or 0 for each in backend.running() if each.id == box.id), 9)

    with pytest.raises(errors.Unavailable) as raised:
        await running

    assert raised.value.code == "box_gone"
    assert not box.is_alive
    await until(lambda: box.id not in {each.id for each in backend.running()}, "it is still listed")
    await box.close()


async def test_processes_are_bounded(box: Box) -> None:
    code = (
        "import os, time\ncount = 0\ntry:\n    while count < 500:\n        if os.fork() == 0: time.sleep(100)\n"
        "        count += 1\nexcept OSError: pass\nprint(count)"
    )

    assert 4 <= int((await run(box, code)).stdout) <= 64
    assert await printed(box, "print('well')") == "well"
