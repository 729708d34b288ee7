"""What runs is paid for, however the request ends."""

import asyncio

import pytest
from sqlalchemy import text

from tests.unit.sandbox.service.conftest import ANNA, Make, Server
from tests.unit.sandbox.service.test_states import kill_boxes
from trainyard.core import errors
from trainyard.core.db import Database
from trainyard.core.metering.types import Used
from trainyard.sandbox.types.domain import Execute

BURN = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass\n"


def ends(server: Server) -> list[tuple[str, bool]]:
    """Tell how each charge ended, and whether its run was paid."""
    return [(used.outcome, _cpu_s(used) >= 0.15) for used in _settled(server)]


def _settled(server: Server) -> list[Used]:
    return [charge.used for charge in server.meter.settled if charge.used is not None]


def _cpu_s(used: Used) -> float:
    return 0.0 if used.work is None else used.work.cpu_s


async def test_a_caller_who_leaves_while_files_are_stored_has_paid_for_the_run(server: Server) -> None:
    server.blobs.may_go_on.clear()
    running = asyncio.create_task(server.run(BURN + "open('a', 'w').write('large')"))
    await server.blobs.is_asked.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert ends(server) == [("cancelled", True)]


async def test_a_run_whose_files_cannot_be_stored_is_paid_and_its_caller_hears_of_the_error(server: Server) -> None:
    server.blobs.is_full = True
    with pytest.raises(OSError, match="No space left"):
        await server.run(BURN + "open('a', 'w').write('large')")
    assert ends(server) == [("failed", True)]


async def test_a_run_whose_session_is_deleted_meanwhile_is_paid(server: Server, database: Database) -> None:
    """Its files have no session to be named in."""
    done = await server.run("x = 1")
    begun = asyncio.Event()
    wish = Execute(
        code="print(1, flush=True)\n" + BURN + "open('a', 'w').write('b')", language="py", session_id=done.session_id
    )
    running = asyncio.create_task(server.service.execute(ANNA, wish, lambda *_: begun.set(), request_id="req_2"))
    await begun.wait()
    with database.begin() as connection:
        connection.execute(text("delete from sandbox_sessions"))
    with pytest.raises(errors.TrainyardError):
        await running
    assert ends(server)[1:] == [("failed", True)]


async def test_a_run_whose_box_ends_under_it_pays_by_the_wall_clock(make: Make) -> None:
    server = make(checkpoint_s=3600)
    await server.service.start()
    begun = asyncio.Event()
    wish = Execute(code="print(1, flush=True)\nwhile True: pass", language="py")
    running = asyncio.create_task(server.service.execute(ANNA, wish, lambda *_: begun.set(), request_id="req_1"))
    await begun.wait()
    kill_boxes(server)
    assert (await running).reason == "killed"
    (used,) = _settled(server)
    assert used.work is not None
    assert 0 < used.work.cpu_s < 20


async def test_what_a_checkpoint_runs_when_it_is_loaded_is_paid_with_the_run(server: Server) -> None:
    code = f"class Slow:\n    def __setstate__(self, _):\n        exec({BURN!r})\nslow = Slow()\nslow.x = 1"
    done = await server.run(code)
    assert await server.service.kill_session(ANNA, done.session_id)
    again = await server.run("print(slow is not None)", session_id=done.session_id)
    assert again.stdout == "True\n"
    assert ends(server)[1:] == [("done", True)]
