"""Sessions that live, wait, idle, are taken over and end."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence

import pytest

from tests.unit.sandbox.service.conftest import ANNA, BERT, Make, Server, uploads
from tests.unit.sandbox.service.test_states import durable, until
from trainyard.core import errors
from trainyard.core.clock import FakeClock, SystemClock
from trainyard.core.db import Database
from trainyard.sandbox.backends.base import Running
from trainyard.sandbox.backends.fake import FakeBackend
from trainyard.sandbox.languages import Reach
from trainyard.sandbox.service.holding import LEASE_S, is_dead, name_of_this_process
from trainyard.sandbox.store import SessionStore
from trainyard.sandbox.types.domain import Execute
from trainyard.sandbox.types.orders import Reason

ELSEWHERE = "another-machine:1:2:3"
DEAD = ":".join((name_of_this_process().partition(":")[0], str(os.getpid()), "1", "x"))
"""Had the number of this process before it."""

_ANOTHER = """
from trainyard.sandbox.service.holding import name_of_this_process
print(name_of_this_process(), flush=True)
input()
"""


WAIT = "import time\nwhile not __import__('os').path.exists('go'): time.sleep(0.01)\n"


class StumblingBackend(FakeBackend):
    """Fails once, as only a fault of its own would, when its boxes are counted."""

    stumbles = 1

    def running(self) -> Sequence[Running]:
        """List them, but not the first time."""
        if self.stumbles:
            self.stumbles -= 1
            raise RuntimeError("unforeseen")
        return super().running()


def test_a_holder_is_dead_as_soon_as_it_has_ended_also_before_anybody_has_waited_for_it() -> None:
    with subprocess.Popen([sys.executable, "-c", _ANOTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as another:
        assert another.stdout is not None
        holder = another.stdout.readline().decode().strip()
        assert not is_dead(holder)
        another.kill()
        os.waitid(os.P_PID, another.pid, os.WEXITED | os.WNOWAIT)
        assert is_dead(holder)


async def test_sessions_are_tended_whatever_one_round_has_met(make: Make) -> None:
    backend = StumblingBackend()
    server = make(backend=backend, idle_s=0.4)
    await server.service.start()
    done = await server.run("x = 1")

    await until(lambda: not backend.stumbles and not backend.running())  # put away for idling, in a later round

    assert (await server.run("print(x)", session_id=done.session_id)).stdout == "1\n"


async def test_runs_of_one_session_wait_in_line(server: Server) -> None:
    done = await server.run("order = []")
    runs = [
        server.run(f"import time; time.sleep(0.02); order.append({n}); print(order)", session_id=done.session_id)
        for n in range(5)
    ]
    assert sorted(len(one.stdout) for one in await asyncio.gather(*runs)) == [4, 7, 10, 13, 16]


async def test_runs_of_one_name_that_come_at_once_share_a_session(server: Server) -> None:
    done = await asyncio.gather(*(server.run("n = globals().get('n', 0) + 1; print(n)", entity_id="e") for _ in "abcd"))
    assert len({one.session_id for one in done}) == 1
    assert sorted(one.stdout for one in done) == ["1\n", "2\n", "3\n", "4\n"]


async def test_an_interrupt_ends_the_run_and_keeps_the_variables(server: Server) -> None:
    done = await server.run("x = 1")
    assert not await server.service.interrupt(ANNA, done.session_id)
    running = asyncio.create_task(server.run("y = 2\nimport time\ntime.sleep(60)", session_id=done.session_id))
    await asyncio.sleep(0.3)
    assert await server.service.interrupt(ANNA, done.session_id)
    assert (await running).reason == "interrupted"
    assert (await server.run("print(x, y)", session_id=done.session_id)).stdout == "1 2\n"


async def test_a_caller_who_leaves_ends_his_run_and_pays_for_it(server: Server) -> None:
    done = await server.run("x = 1")
    await durable(server, done.session_id)
    running = asyncio.create_task(server.run("while True: pass", session_id=done.session_id))
    await asyncio.sleep(0.5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    used = [charge.used for charge in server.meter.settled if charge.used]
    assert [one.outcome for one in used] == ["done", "cancelled"]
    assert used[1].work is not None
    assert used[1].work.cpu_s > 0.05  # of the half second, on a busy machine
    assert (await server.run("print(x)", session_id=done.session_id)).stdout == "1\n"


async def test_a_killed_session_ends_what_runs_and_keeps_files_and_state(server: Server) -> None:
    done = await server.run("x = 1\nopen('a', 'w').write('a')")
    await durable(server, done.session_id)
    running = asyncio.create_task(server.run("import time; time.sleep(60)", session_id=done.session_id))
    await asyncio.sleep(0.3)
    assert await server.service.kill_session(ANNA, done.session_id)
    assert (await running).reason == "killed"
    assert (await server.run("print(x, open('a').read())", session_id=done.session_id)).stdout == "1 a\n"


async def test_a_deleted_session_is_gone_with_all_it_had(server: Server) -> None:
    done = await server.run("x = 1\nopen('a', 'w').write('a')")
    await durable(server, done.session_id)
    await server.service.delete_session(ANNA, done.session_id)
    with pytest.raises(errors.NotFound):
        await server.run("1", session_id=done.session_id)
    assert await server.service.list_sessions(ANNA) == []
    await until(lambda: server.backend.running() == [])
    assert [blob async for blob in server.blobs.stored(min_age_s=0)] == []


async def test_a_session_that_idles_goes_to_its_checkpoint(make: Make) -> None:
    server = make(idle_s=0.3, checkpoint_s=3600)
    await server.service.start()
    done = await server.run("x = 1")
    await until(lambda: server.backend.running() == [])
    info = await durable(server, done.session_id)
    assert (info.is_live, info.kept) == (False, ("x",))
    assert (await server.run("print(x)", session_id=done.session_id)).stdout == "1\n"


async def test_the_session_that_was_used_longest_ago_makes_room_for_a_new_one(make: Make) -> None:
    server = make(max_boxes=2, checkpoint_s=3600)
    await server.service.start()
    first, second = await server.run("x = 1"), await server.run("x = 2")
    await server.run("x", session_id=first.session_id)
    third = await server.run("x = 3")
    live = {one.id for one in await server.service.list_sessions(ANNA) if one.is_live}
    assert live == {first.session_id, third.session_id}
    assert (await server.run("print(x)", session_id=second.session_id)).stdout == "2\n"


async def test_when_every_box_runs_code_the_next_caller_is_told_so(make: Make) -> None:
    server = make(max_boxes=1)
    await server.service.start()
    session, _ = await server.upload(a="1")
    running = asyncio.create_task(server.run(WAIT, session_id=session))
    await asyncio.sleep(0.3)
    with pytest.raises(errors.Unavailable) as caught:
        await server.run("1", BERT)
    assert (caught.value.code, caught.value.retry_after_s) == ("sandbox_full", 1)
    await server.service.interrupt(ANNA, session)
    await running
    assert server.meter.running == []


async def test_sessions_that_take_too_much_memory_together_are_put_away(make: Make) -> None:
    server = make(sessions_memory_bytes=100 << 20, checkpoint_s=3600)
    await server.service.start()
    first = await server.run("x = bytearray(60 << 20)")
    await server.run("x = bytearray(60 << 20)", BERT)
    await until(lambda: len(server.backend.running()) == 1)
    assert not (await server.service.show_session(ANNA, first.session_id)).is_live
    assert (await server.run("print(len(x))", session_id=first.session_id)).stdout == f"{60 << 20}\n"


async def test_a_session_moves_to_the_process_that_needs_it(make: Make) -> None:
    here, there = make(checkpoint_s=3600), make(checkpoint_s=3600)
    await here.service.start()
    await there.service.start()
    done = await here.run("x = 1\nopen('a', 'w').write('a')")
    moved = await there.run("x += 1; print(x, open('a').read())", session_id=done.session_id)
    assert (moved.stdout, moved.is_new_runtime) == ("2 a\n", True)
    assert here.backend.running() == []
    back = await here.run("print(x)", session_id=done.session_id)
    assert back.stdout == "2\n"


async def test_a_run_is_interrupted_through_another_process(make: Make) -> None:
    here, there = make(), make()
    await here.service.start()
    await there.service.start()
    done = await here.run("x = 1")
    running = asyncio.create_task(here.run("import time; time.sleep(60)", session_id=done.session_id))
    await asyncio.sleep(0.3)
    assert await there.service.interrupt(ANNA, done.session_id)
    assert (await running).reason == "interrupted"


@pytest.mark.parametrize("is_elsewhere", [False, True])
async def test_the_first_run_of_a_session_can_be_interrupted_once_it_is_told_of(make: Make, is_elsewhere: bool) -> None:
    here, there = make(), make()
    await here.service.start()
    await there.service.start()
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    wish = Execute(code="x = 1\nprint('begun', flush=True)\nimport time; time.sleep(60)", language="py")
    begun = asyncio.Event()
    running = asyncio.create_task(
        here.service.execute(ANNA, wish, lambda *_: begun.set(), request_id="req_1", on_session=told.set_result)
    )
    session = await told
    await begun.wait()
    asked = there if is_elsewhere else here
    assert (await asked.service.show_session(ANNA, session)).id == session
    with pytest.raises(errors.NotFound):
        await asked.service.interrupt(BERT, session)
    assert await asked.service.interrupt(ANNA, session)
    assert (await running).reason == "interrupted"
    assert (await here.run("print(x)", session_id=session)).stdout == "1\n"


async def test_a_first_run_whose_caller_leaves_leaves_an_empty_session(server: Server) -> None:
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    wish = Execute(code="import time; time.sleep(60)", language="py")
    running = asyncio.create_task(
        server.service.execute(ANNA, wish, lambda *_: None, request_id="req_1", on_session=told.set_result)
    )
    session = await told
    running.cancel()
    await asyncio.wait([running])
    await until(lambda: server.backend.running() == [])
    assert (await server.run("print('again')", session_id=session)).stdout == "again\n"
    await server.service.delete_session(ANNA, session)


async def test_a_run_is_killed_through_another_process(make: Make) -> None:
    here, there = make(), make()
    await here.service.start()
    await there.service.start()
    done = await here.run("x = 1")
    await durable(here, done.session_id)
    running = asyncio.create_task(here.run("import time; time.sleep(60)", session_id=done.session_id))
    await asyncio.sleep(0.3)
    assert await there.service.kill_session(ANNA, done.session_id)
    assert (await running).reason == "killed"
    assert (await there.run("print(x)", session_id=done.session_id)).stdout == "1\n"


async def test_an_idle_session_is_killed_through_another_process(make: Make) -> None:
    here, there = make(checkpoint_s=3600), make()
    await here.service.start()
    await there.service.start()
    done = await here.run("x = 1")
    assert here.backend.running() != []
    assert await there.service.kill_session(ANNA, done.session_id)
    assert not (await there.service.show_session(ANNA, done.session_id)).is_live
    await until(lambda: here.backend.running() == [])
    assert not await there.service.kill_session(ANNA, done.session_id)  # nothing is left to end
    assert (await there.run("print(x)", session_id=done.session_id)).stdout == "1\n"


async def test_an_interrupt_through_another_process_tells_when_nothing_ran(make: Make) -> None:
    here, there = make(), make()
    await here.service.start()
    await there.service.start()
    done = await here.run("x = 1")
    assert not await there.service.interrupt(ANNA, done.session_id)
    begun = asyncio.Event()
    wish = Execute(code="print(1, flush=True)\nimport time; time.sleep(60)", language="py", session_id=done.session_id)
    running = asyncio.create_task(here.service.execute(ANNA, wish, lambda *_: begun.set(), request_id="req_1"))
    await begun.wait()
    assert await there.service.interrupt(ANNA, done.session_id)
    assert (await running).reason == "interrupted"
    assert not await there.service.interrupt(ANNA, done.session_id)
    assert (await there.run("print(x)", session_id=done.session_id)).stdout == "1\n"


@pytest.mark.parametrize("asked", ["kill_session", "interrupt"])
async def test_a_holder_that_does_not_answer_is_told_of(make: Make, database: Database, asked: str) -> None:
    server = make()
    session, _ = await server.upload(a="1")
    SessionStore(database).claim(session, ELSEWHERE, SystemClock().now(), 60, is_dead)
    with pytest.raises(errors.Unavailable) as told:
        await getattr(server.service, asked)(ANNA, session)
    assert "has not answered yet" in told.value.message


@pytest.mark.parametrize("asked", ["kill_session", "interrupt"])
async def test_nothing_is_asked_of_a_holder_that_is_dead(make: Make, database: Database, asked: str) -> None:
    server = make()
    session, _ = await server.upload(a="1")
    SessionStore(database).claim(session, DEAD, SystemClock().now(), 60, is_dead)
    assert not await getattr(server.service, asked)(ANNA, session)


async def test_a_live_session_is_listed_whatever_ran_since_and_a_list_that_is_cut_says_so(server: Server) -> None:
    live = (await server.run("x = 1")).session_id
    for _ in range(2):
        await server.run("1")
    listed = await server.service.list_sessions(ANNA, most=2)
    assert (listed[0].id, len(listed), listed.has_more) == (live, 2, True)
    whole = await server.service.list_sessions(ANNA)
    assert ([one.is_live for one in whole], whole.has_more) == ([True, False, False], False)


async def test_boxes_that_are_taken_at_once_are_never_too_many(make: Make) -> None:
    server = make(max_boxes=3)
    await server.service.start()
    done = await asyncio.gather(*(server.run("x = 1") for _ in range(12)), return_exceptions=True)
    assert len(server.backend.running()) <= 3
    refused = [one for one in done if isinstance(one, errors.Unavailable)]
    assert 0 < len(refused) <= 9
    assert {one.code for one in refused} == {"sandbox_full"}


@pytest.mark.parametrize(
    ("holder", "passed_s", "is_live"),
    [(ELSEWHERE, 9, True), (ELSEWHERE, 11, False), (DEAD, 0, False)],
    ids=["within its lease", "past its lease", "dead"],
)
async def test_a_session_is_live_elsewhere_while_its_holder_lives(
    make: Make, database: Database, holder: str, passed_s: float, is_live: bool
) -> None:
    clock = FakeClock()
    server = make(clock=clock)  # not started: it tends nothing
    session, _ = await server.upload(a="1")
    SessionStore(database).claim(session, holder, clock.now(), LEASE_S, is_dead)
    clock.advance(passed_s)
    listed = await server.service.list_sessions(ANNA)
    assert [one.is_live for one in listed] == [is_live]
    assert (await server.service.show_session(ANNA, session)).is_live is is_live


async def test_files_that_another_process_stores_are_seen_by_a_live_session(make: Make) -> None:
    here, there = make(), make()
    await here.service.start()
    done = await here.run("x = 1")
    await there.service.upload(ANNA, uploads({"a": "from there"}), session_id=done.session_id)
    assert (await here.run("print(x, open('a').read())", session_id=done.session_id)).stdout == "1 from there\n"


async def test_sessions_end_with_their_time_and_leave_nothing(make: Make) -> None:
    clock = FakeClock()
    server = make(clock=clock, session_ttl_s=3600)
    await server.service.start()
    old = await server.run("open('a', 'w').write('old')")
    clock.advance(1800)
    new = await server.run("open('a', 'w').write('new')")
    clock.advance(1801)
    with pytest.raises(errors.NotFound):
        await server.run("1", session_id=old.session_id)
    with pytest.raises(errors.NotFound):
        await server.service.list_files(ANNA, old.session_id)
    async with asyncio.timeout(20):
        while not (done := await server.service.gc(stray_s=0)).sessions:  # noqa: ASYNC110 - until the idle box is away
            await asyncio.sleep(0.02)
    assert done.sessions == 1
    assert not await server.blobs.exists(old.files[0].sha256)
    assert [one.id for one in await server.service.list_sessions(ANNA)] == [new.session_id]
    assert await server.read(new.session_id, new.files[0].id) == b"new"
    assert await server.service.gc(stray_s=0) == type(done)(sessions=0, contents=0)


async def test_contents_that_a_crash_left_without_a_name_are_removed_when_they_are_old(server: Server) -> None:
    session, ids = await server.upload(a="named")
    await server.blobs.put_bytes(b"put, and then the process died")
    assert (await server.service.gc()).contents == 0
    assert (await server.service.gc(stray_s=0)).contents == 1
    assert await server.read(session, ids["a"]) == b"named"


async def test_bash_and_python_share_the_workspace_and_not_the_variables(make: Make) -> None:
    server = make(reach=Reach())
    await server.service.start()
    done = await server.run("x = 1\nopen('a', 'w').write('py')")
    bash = await server.run("cat a; echo -n sh > b; python3 -c 'print(2)'", language="bash", session_id=done.session_id)
    assert (bash.stdout, [file.path for file in bash.files]) == ("py2\n", ["b"])
    assert (await server.run("print(x, open('b').read())", session_id=done.session_id)).stdout == "1 sh\n"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"code": " \n"}, "empty_code"),
        ({"language": "cobol"}, "unsupported_language"),
        ({"timeout_s": 0}, "validation_error"),
        ({"timeout_s": 301}, "validation_error"),
        ({"timeout_s": float("nan")}, "validation_error"),
        ({"entity_id": "a b"}, "validation_error"),
        ({"env": {"1X": "y"}}, "validation_error"),
        ({"env": {"X": "a\0b"}}, "validation_error"),
        ({"args": ("a\0b",)}, "validation_error"),
        ({"args": ("\udcff",)}, "validation_error"),
        ({"code": "'\udcff'"}, "validation_error"),
        ({"code": "1" * ((1 << 20) + 1)}, "request_too_large"),
        ({"args": ("a" * (1 << 20),)}, "request_too_large"),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_is_done(
    server: Server, fields: dict[str, object], code: str
) -> None:
    with pytest.raises((errors.InvalidRequest, errors.TooLarge)) as caught:
        await server.run(**({"code": "1"} | fields))  # type: ignore[arg-type]
    assert caught.value.code == code
    assert server.meter.opened == []


async def test_a_shutdown_that_gets_no_time_ends_the_boxes_anyway(make: Make) -> None:
    server = make(checkpoint_s=3600, drain_s=0.0)
    await server.service.start()
    await server.run("x = 1")
    await server.service.aclose()
    assert server.backend.running() == []


@pytest.mark.parametrize("is_elsewhere", [False, True])
async def test_removing_a_session_does_not_wait_for_what_runs_in_it(make: Make, is_elsewhere: bool) -> None:
    server = make()
    await server.service.start()
    other = make() if is_elsewhere else server
    first = await server.run("x = 1")
    running = asyncio.create_task(server.run("import time; time.sleep(60)", session_id=first.session_id, timeout_s=60))
    await asyncio.sleep(0.3)
    async with asyncio.timeout(20):
        await other.service.delete_session(ANNA, first.session_id)
        assert (await running).reason is Reason.KILLED
    with pytest.raises(errors.NotFound):
        await server.run("1", session_id=first.session_id)
