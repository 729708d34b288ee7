"""What is bubblewrap's own: its layers, its processes on this machine, and what is left when something of it ends."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from tests.contract.sandbox.backends.attempts import printed
from tests.contract.sandbox.backends.bubblewrap.conftest import settings
from tests.contract.sandbox.backends.local.grounds import Grounds, grounds
from tests.contract.sandbox.backends.local.host import groups_of, is_there, owner_of, tree_of, until, until_gone
from tests.contract.sandbox.backends.orders import run
from trainyard.core import errors
from trainyard.core.settings import SandboxSettings
from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.backends.local import LocalBackend, places

pytestmark = pytest.mark.asyncio(loop_scope="session")


def pid_of(ground: Grounds, box: Box) -> int:
    found = next(each.pid for each in ground.backend.running() if each.id == box.id)
    assert found is not None
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


async def test_it_says_what_it_is_and_what_it_cannot_bound(ground: Grounds) -> None:
    layers = {layer.name: layer for layer in ground.backend.layers()}

    assert ground.backend.name == "bubblewrap"
    assert layers["bubblewrap"].detail.startswith("bubblewrap 0.")
    assert [name for name, layer in layers.items() if layer.is_required and not layer.is_held] == []
    assert not layers["number of files"].is_held
    assert "workspace_files" in layers["number of files"].detail


async def test_neither_bwrap_nor_the_box_is_root(ground: Grounds, box: Box) -> None:
    other = await ground.backend.take("lean", "tenant")
    pids = [pid_of(ground, each) for each in (box, other)]
    owners = [owner_of(pid) for pid in (*pids, *map(parent_of, pids))]
    await other.close()

    assert owners[:2] == owners[2:]
    assert len(set(owners)) == (2 if os.getuid() == 0 else 1)
    assert 0 not in owners


async def test_bwrap_ends_with_its_box_and_the_group_with_both(ground: Grounds) -> None:
    zygote = ground.zygote().pid
    assert zygote is not None
    box = await ground.backend.take("lean", "tenant")
    attendant = parent_of(pid_of(ground, box))
    assert parent_of(attendant) == zygote

    await box.close()

    await until_gone([attendant])
    alive = len(ground.backend.running())
    await until(lambda: len({path.name for path in groups_of(zygote)}) <= alive + 1, "groups of boxes are left")


async def test_a_killed_bwrap_takes_its_box_along(ground: Grounds) -> None:
    box = await ground.backend.take("lean", "tenant")
    running = asyncio.ensure_future(run(box, "import os, time\nfor _ in range(3): os.fork()\ntime.sleep(100)"))
    pids = tree_of(pid_of(ground, box))

    os.kill(parent_of(pid_of(ground, box)), signal.SIGKILL)

    with pytest.raises(errors.Unavailable) as raised:
        await running
    assert raised.value.code == "box_gone"
    await until_gone(pids)
    await box.close()
    await (await ground.backend.take("lean", "tenant")).close()


async def test_a_killed_zygote_takes_everything_along_and_the_next_makes_more(ground: Grounds, tmp_path: Path) -> None:
    async with grounds(tmp_path, settings(tmp_path)) as own:
        box = await own.backend.take("lean", "tenant")
        before = own.zygote().pid
        assert before is not None
        pids = tree_of(before)
        assert len(pids) >= 3

        os.kill(before, signal.SIGKILL)

        await until_gone(pids)
        await box.close()
        await until(lambda: own.zygote().pid not in (None, before), "no new zygote")
        again = await own.backend.take("lean", "tenant")
        assert await printed(again, "print('well')") == "well"
        await again.close()
        await until(lambda: groups_of(before) == [], "groups of the dead zygote are left")


async def test_the_end_of_the_backend_leaves_no_process(ground: Grounds, tmp_path: Path) -> None:
    async with grounds(tmp_path, settings(tmp_path)) as own:
        await own.backend.take("lean", "tenant")
        pids = tree_of(own.zygote().pid or 0)

    assert len(pids) >= 3
    assert not any(map(is_there, pids))


HIDDEN = 'mount --bind /dev/null "$(command -v bwrap)"; exec "$@"'
"""Runs a command where bubblewrap cannot be run."""
hides_programs = pytest.mark.skipif(os.getuid() != 0, reason="only root can hide a program from a process")


async def without_bwrap(ground: Grounds, socket: Path | None) -> tuple[asyncio.subprocess.Process, bytes]:
    """Start a zygote where bubblewrap is hidden; gives it, and what it is to be told."""
    command = places.command(None, "bubblewrap")
    started = await asyncio.create_subprocess_exec(
        *("unshare", "--mount", "--propagation=private", "sh", "-ec", HIDDEN, "sh", *command),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    return started, places.assignment(settings(ground.home), "lean", None, socket).encode()


@hides_programs
async def test_without_bwrap_its_layers_do_not_hold_and_say_what_to_install(ground: Grounds) -> None:
    zygote, order = await without_bwrap(ground, None)
    told, _ = await zygote.communicate(order)
    layers = {layer["name"]: layer for layer in json.loads(told)}

    assert zygote.returncode == 0
    for name in ("bubblewrap", "network namespace", "pid namespace", "private root"):
        assert not layers[name]["is_held"]
        assert layers[name]["is_required"]
    assert "the package is `bubblewrap`" in layers["bubblewrap"]["detail"]


async def first_box(backend: LocalBackend) -> Box:
    await backend.start()
    return await backend.take("lean", "tenant")


@hides_programs
@pytest.mark.parametrize("allow_weaker", [False, True])
async def test_without_bwrap_nothing_is_started(ground: Grounds, tmp_path: Path, allow_weaker: bool) -> None:
    zygote, order = await without_bwrap(ground, places.socket_of(tmp_path, "lean"))
    assert zygote.stdin is not None
    zygote.stdin.write(order)
    zygote.stdin.close()
    chosen = SandboxSettings(backend="bubblewrap", warm=0, allow_weaker=allow_weaker)
    backend = LocalBackend(chosen, tmp_path, has_packages=False, take_s=2.0)
    try:
        with pytest.raises(errors.TrainyardError, match="bwrap is not installed"):
            await first_box(backend)
    finally:
        await backend.aclose()
        zygote.terminate()
        await zygote.wait()


@pytest.mark.parametrize("place", ["/proc/keys", "/proc/timer_list", "/proc/kmsg", "/proc/sysrq-trigger"])
async def test_what_proc_tells_of_the_machine_is_hidden(box: Box, place: str) -> None:
    said = await printed(box, f"import os\nprint(len(open('{place}').read()) if os.path.exists('{place}') else 0)")

    assert said == "0"


async def test_there_are_five_devices(box: Box) -> None:
    code = (
        "import os, stat\nprint(*sorted(n for n in os.listdir('/dev') if stat.S_ISCHR(os.stat('/dev/' + n).st_mode)"
        " and not os.path.islink('/dev/' + n)))"
    )

    assert (await printed(box, code)).split() == ["full", "null", "random", "urandom", "zero"]


async def test_of_this_package_the_runner_alone_is_shown(box: Box) -> None:
    assert await printed(box, "import os\nprint(sorted(os.listdir('/opt/sandbox/runner/trainyard')))") == (
        "['__init__.py', 'sandbox']"
    )
    assert await printed(box, "print(os.listdir('/opt/sandbox/runner/trainyard/sandbox'))") in (
        "['__init__.py', 'inside']",
        "['inside', '__init__.py']",
    )
