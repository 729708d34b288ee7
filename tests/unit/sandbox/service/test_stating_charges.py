"""What is done with variables counts as runs do: it runs code of the caller, in a box."""

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from tests.unit.sandbox.service.conftest import ANNA, Make, Server
from tests.unit.sandbox.service.test_running_charges import BURN
from tests.unit.sandbox.service.test_states import exported, pieces, until
from trainyard.core import errors
from trainyard.core.clock import FakeClock
from trainyard.core.metering.fake import OpenCharge

SLOW = f"class Slow:\n    def __%s__(self, *_):\n        exec({BURN!r})\n        return {{'a': 1}}\nslow = Slow()"
Call = Callable[[Server, str], Awaitable[object]]


def last(server: Server) -> OpenCharge:
    """Give the charge that was opened last; it has ended."""
    assert server.meter.running == []
    return server.meter.opened[-1]


async def test_a_list_of_variables_pays_for_the_checkpoint_that_it_loads(server: Server) -> None:
    done = await server.run(SLOW % "setstate" + "\nslow.a = 1")
    assert await server.service.kill_session(ANNA, done.session_id)
    await server.service.variables(ANNA, done.session_id, request_id="req_listing")
    charge = last(server)
    assert (charge.job.route, charge.job.model) == ("/sessions/{session_id}/variables", "sandbox/state")
    assert charge.job.request_id == "req_listing"
    assert charge.used is not None
    assert charge.used.work is not None
    assert charge.used.work.cpu_s >= 0.15


async def test_an_export_pays_for_what_it_runs_and_counts_what_it_sends(make: Make) -> None:
    server = make(checkpoint_s=3600)
    await server.service.start()
    done = await server.run(SLOW % "getstate")
    raw = await exported(server, done.session_id)
    charge = last(server)
    assert (charge.job.route, charge.job.model) == ("/state/{session_id}", "sandbox/state")
    assert charge.used is not None
    assert charge.used.work is not None
    assert charge.used.work.cpu_s >= 0.15
    assert charge.used.work.bytes_out == len(raw)
    await server.service.read_state(ANNA, done.session_id, knows=lambda _: True)
    again = last(server).used
    assert again is not None
    assert again.work is not None
    assert (again.work.cpu_s, again.work.bytes_out) == (0, 0)


async def test_an_import_counts_its_bytes(server: Server) -> None:
    done = await server.run("x = 1")
    raw = await exported(server, done.session_id)
    await server.service.write_state(ANNA, done.session_id, pieces(raw))
    used = last(server).used
    assert used is not None
    assert used.work is not None
    assert (used.work.bytes_in, used.work.bytes_out) == (len(raw), 0)


async def test_an_export_that_is_not_stored_pays_for_what_it_ran(make: Make) -> None:
    server = make(checkpoint_s=3600)
    await server.service.start()
    done = await server.run(SLOW % "getstate")
    server.blobs.is_full = True
    with pytest.raises(errors.Unavailable):
        await server.service.read_state(ANNA, done.session_id)
    used = last(server).used
    assert used is not None
    assert used.outcome == "failed"


@pytest.mark.parametrize(
    "call",
    [
        lambda server, session: server.service.variables(ANNA, session),
        lambda server, session: server.service.read_state(ANNA, session),
        lambda server, session: server.service.write_state(ANNA, session, pieces(b"\x03")),
    ],
)
async def test_what_fails_before_anything_has_run_is_refunded(server: Server, call: Call) -> None:
    with pytest.raises(errors.NotFound):
        await call(server, "Z" * 21)
    assert last(server).is_refunded


async def test_another_process_knows_at_once_that_a_run_has_more_than_the_checkpoint(make: Make) -> None:
    clock = FakeClock()
    here, there = make(clock=clock, checkpoint_s=3600), make(clock=clock)
    await here.service.start()
    done = await here.run("x = 1")
    await exported(here, done.session_id)
    assert (await there.service.state_info(ANNA, done.session_id)).is_durable
    await here.run("x = 2", session_id=done.session_id)  # within the second in which times are not written again
    info = await there.service.state_info(ANNA, done.session_id)
    assert (info.is_live, info.is_durable) == (True, False)


async def test_a_state_is_written_down_first_in_the_process_that_has_the_session(make: Make) -> None:
    here, there = make(checkpoint_s=3600), make()
    for server in (here, there):
        await server.service.start()
    done = await here.run("x = 1")
    first = await exported(there, done.session_id)
    assert await exported(here, done.session_id) == first
    await here.run("x = 'another value'", session_id=done.session_id)
    assert await exported(there, done.session_id) != first
    await until(lambda: here.backend.running() == [])


async def test_a_session_whose_state_is_written_down_stays_where_it_is(make: Make) -> None:
    here, there = make(checkpoint_s=3600), make()
    for server in (here, there):
        await server.service.start()
    done = await here.run("x = 1")
    first = await exported(here, done.session_id)
    assert await exported(there, done.session_id) == first
    assert not (await here.run("x", session_id=done.session_id)).is_new_runtime


async def test_a_checkpoint_that_ends_its_box_is_paid_by_the_wall_clock(server: Server) -> None:
    ending = f"exec({BURN!r})\n        import os; os.kill(os.getppid(), 9)"
    done = await server.run(
        f"class Last:\n    def __setstate__(self, _):\n        {ending}" + "\nlast = Last()\nlast.a = 1"
    )
    assert await server.service.kill_session(ANNA, done.session_id)
    with suppress(errors.Unavailable):
        await server.service.variables(ANNA, done.session_id)
    used = last(server).used
    assert used is not None
    assert used.work is not None
    assert used.work.cpu_s >= 0.15
