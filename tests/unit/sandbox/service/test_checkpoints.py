"""Checkpoints that go wrong: what is kept, what is told, and what does not stay behind."""

import asyncio
import hashlib
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from tests.unit.sandbox.service.conftest import ANNA, Make, Server
from tests.unit.sandbox.service.test_states import durable, exported, until
from trainyard.core import errors
from trainyard.core.db import Database
from trainyard.core.settings import SandboxLimits
from trainyard.sandbox.languages import Reach
from trainyard.sandbox.service.live import Readied
from trainyard.sandbox.types.domain import Executed
from trainyard.sandbox.types.orders import Dropped

_DIES_WHEN_WRITTEN = """
class Fatal:
    def __reduce__(self):
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
fatal = Fatal()
"""
_DIES_WHEN_READ = """
def revive(flag):
    import os, signal
    if os.path.exists(flag):
        if flag.endswith('once'):
            os.remove(flag)
        os.kill(os.getpid(), signal.SIGKILL)
    return 7
class Frail:
    def __reduce__(self):
        return revive, (FLAG,)
x, frail = 1, Frail()
"""


def _spooled(server: Server) -> list[str]:
    """List what lies in the spools of a server's boxes."""
    pids = [box.pid for box in server.backend.running()]
    spools = [_argument(pid, "--spool") for pid in pids if pid is not None]
    return [file.name for spool in spools for file in spool.iterdir()]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def _end_interpreter(server: Server) -> None:
    """End the interpreter of the only box as a kernel without memory does, and wait for the next one."""
    (box,) = server.backend.running()
    pid = box.pid or 0
    (interpreter,) = _children(pid)
    os.kill(interpreter, signal.SIGKILL)
    await until(lambda: _children(pid) not in ([], [interpreter]))


def _argument(pid: int, name: str) -> Path:
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    return Path(arguments[arguments.index(name) + 1])


def _lost(done: Executed) -> list[str]:
    return [one.name for one in done.lost]


@pytest.fixture
async def slow(make: Make) -> Server:
    """A server that writes checkpoints when it is asked to."""
    server = make(checkpoint_s=3600)
    await server.service.start()
    return server


async def test_a_state_stays_in_no_spool_once_it_is_stored(slow: Server) -> None:
    done = await slow.run("x = b'x' * 100_000")
    assert await exported(slow, done.session_id)
    assert _spooled(slow) == []


async def test_a_state_that_could_not_be_stored_stays_in_no_spool(slow: Server) -> None:
    done = await slow.run("x = b'x' * 100_000")
    slow.blobs.is_full = True
    with pytest.raises(errors.Unavailable):
        await exported(slow, done.session_id)
    assert _spooled(slow) == []


async def test_a_state_stays_in_no_spool_once_it_is_restored(slow: Server) -> None:
    done = await slow.run("x = 1\nopen('kept.txt', 'w')")
    await slow.service.kill_session(ANNA, done.session_id)
    again = await slow.run("print(x)", session_id=done.session_id)
    assert (again.stdout, again.restored, _spooled(slow)) == ("1\n", ("x",), [])


async def test_an_interpreter_that_ends_over_its_checkpoint_is_told_as_a_new_one(server: Server) -> None:
    done = await server.run("x = 1")
    await durable(server, done.session_id)
    await server.run(_DIES_WHEN_WRITTEN, session_id=done.session_id)
    await until(lambda: server.backend.running() == [])
    again = await server.run("x += 1; print(x, 'fatal' in globals())", session_id=done.session_id)
    assert (again.stdout, again.is_new_runtime, again.restored) == ("2 False\n", True, ("x",))
    assert _lost(again) == ["*"]
    assert "since the last checkpoint" in again.lost[0].reason
    third = await server.run("print(x)", session_id=done.session_id)
    assert (third.stdout, third.is_new_runtime, third.lost) == ("2\n", False, ())


_DIES_WHEN_ASKED = """
import os, sys, threading, time
def end():
    before = now = time.monotonic()
    while now < before + 0.5:  # until it has stood still: between the run and the question
        before, now = now, time.monotonic()
    os._exit(3)
x = 2
globals().update({f'v{number}': number for number in range(10_000)})
open('a.txt', 'w').write('a')
sys.setswitchinterval(0.0001)
threading.Thread(target=end, daemon=True).start()
1 / 0
"""


async def test_an_interpreter_that_ends_over_a_list_of_variables_is_told_as_a_new_one(slow: Server) -> None:
    done = await slow.run("x = 1")
    assert await exported(slow, done.session_id)
    await slow.run(_DIES_WHEN_ASKED, session_id=done.session_id)
    await asyncio.sleep(1)
    with pytest.raises(errors.Conflict) as refused:
        await slow.service.variables(ANNA, done.session_id)
    assert refused.value.code == "interpreter_gone"
    again = await slow.run("x += 1; print(x, open('a.txt').read())", session_id=done.session_id)
    assert (again.stdout, again.is_new_runtime, again.restored) == ("2 a\n", True, ("x",))
    assert _lost(again) == ["*"]
    third = await slow.run("print(x)", session_id=done.session_id)
    assert (third.stdout, third.is_new_runtime, third.lost) == ("2\n", False, ())


@pytest.mark.parametrize("is_checkpointed", [True, False])
@pytest.mark.parametrize(("language", "code"), [("py", "x = 2; print('y' in globals())"), ("bash", "echo False")])
async def test_the_first_run_after_an_interpreter_has_ended_begins_with_the_checkpoint_and_says_so(
    make: Make, language: str, code: str, is_checkpointed: bool
) -> None:
    slow = make(checkpoint_s=3600, reach=Reach())
    await slow.service.start()
    done = await slow.run("x = 2; open('a.txt', 'w').write('a')")
    if is_checkpointed:
        assert await exported(slow, done.session_id)
    await slow.run("y = 1; open('a.txt', 'w').write('b'); open('b.txt', 'w'); 1/0", session_id=done.session_id)
    await _end_interpreter(slow)
    again = await slow.run(code, session_id=done.session_id, language=language)
    restored = ("x",) if is_checkpointed else ()
    assert (again.stdout, again.is_new_runtime, again.restored, _lost(again)) == ("False\n", True, restored, ["*"])
    assert "has ended" in again.lost[0].reason
    assert [file.path for file in again.files] == ["a.txt", "b.txt"]  # the failed run's: the box is the same
    third = await slow.run("print('x' in globals(), open('a.txt').read())", session_id=done.session_id)
    has_x = is_checkpointed or language == "py"
    assert (third.stdout, third.is_new_runtime, third.lost) == (f"{has_x} b\n", False, ())


async def test_what_is_defined_after_an_interpreter_has_ended_is_not_written_over_by_an_older_checkpoint(
    slow: Server,
) -> None:
    done = await slow.run("x = y = 1")
    assert await exported(slow, done.session_id)
    await _end_interpreter(slow)
    again = await slow.run("x = 2; print(y)", session_id=done.session_id)
    assert (again.stdout, again.is_new_runtime, again.restored, _lost(again)) == ("1\n", True, ("x", "y"), [])
    third = await slow.run("print(x)", session_id=done.session_id)
    assert (third.stdout, third.is_new_runtime, third.lost) == ("2\n", False, ())
    await slow.service.kill_session(ANNA, done.session_id)
    last = await slow.run("print(x)", session_id=done.session_id)
    assert (last.stdout, last.restored) == ("2\n", ("x", "y"))


@pytest.mark.parametrize("after", ["export", "put away", "variables"])
async def test_an_interpreter_that_ends_between_two_runs_takes_no_checkpoint_along(slow: Server, after: str) -> None:
    done = await slow.run("x = 1")
    assert await exported(slow, done.session_id)
    await slow.run("y = 2", session_id=done.session_id)
    await _end_interpreter(slow)
    if after == "put away":
        assert await slow.service.kill_session(ANNA, done.session_id)
    else:
        ask = exported(slow, done.session_id) if after == "export" else slow.service.variables(ANNA, done.session_id)
        with pytest.raises(errors.Conflict) as refused:
            await ask
        assert refused.value.code == "interpreter_gone"
    again = await slow.run("print(x, 'y' in globals())", session_id=done.session_id)
    assert (again.stdout, again.is_new_runtime, again.restored, _lost(again)) == ("1 False\n", True, ("x",), ["*"])


@pytest.mark.parametrize("is_checkpointed", [True, False])
@pytest.mark.parametrize("has_file", [True, False])
async def test_what_a_run_takes_along_with_its_interpreter_is_told(
    slow: Server, is_checkpointed: bool, has_file: bool
) -> None:
    done = await slow.run("x = 1")
    if is_checkpointed:
        assert await exported(slow, done.session_id)
    await slow.run("y = 2" + "; open('a.txt', 'w')" * has_file, session_id=done.session_id)
    ended = await slow.run("import os; os._exit(3)", session_id=done.session_id)
    assert (ended.exit_code, ended.is_new_runtime, ended.lost) == (3, False, ())
    again = await slow.run("print('y' in globals())", session_id=done.session_id)
    assert (again.stdout, again.is_new_runtime, _lost(again)) == ("False\n", True, ["*"])
    assert again.restored == (("x",) if is_checkpointed else ())
    assert "a run ended its interpreter (exit code 3)" in again.lost[0].reason


async def _kill_box(server: Server) -> None:
    (box,) = server.backend.running()
    os.kill(box.pid or 0, signal.SIGKILL)


async def _lose_box_in_a_run(server: Server, session: str) -> None:
    running = asyncio.create_task(server.run("import time; time.sleep(60)", session_id=session))
    await asyncio.sleep(1)
    await _kill_box(server)
    assert (await running).reason == "killed"


async def _lose_box_between_runs(server: Server, session: str) -> None:
    await _kill_box(server)
    async with asyncio.timeout(20):
        while (await server.service.state_info(ANNA, session)).is_live:  # noqa: ASYNC110 - no event tells it
            await asyncio.sleep(0.02)


async def _lose_caller(server: Server, session: str) -> None:
    running = asyncio.create_task(server.run("open('begun', 'w'); import time; time.sleep(60)", session_id=session))
    await asyncio.sleep(1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("is_checkpointed", [True, False])
@pytest.mark.parametrize("lose", [_lose_box_in_a_run, _lose_box_between_runs, _lose_caller])
async def test_what_goes_with_a_box_is_told(
    slow: Server, lose: Callable[[Server, str], Awaitable[None]], is_checkpointed: bool
) -> None:
    done = await slow.run("x = 1")
    if is_checkpointed:
        assert await exported(slow, done.session_id)
    await slow.run("y = 2", session_id=done.session_id)
    await lose(slow, done.session_id)
    again = await slow.run("print('y' in globals())", session_id=done.session_id)
    assert (again.stdout, again.is_new_runtime, _lost(again)) == ("False\n", True, ["*"])
    assert again.restored == (("x",) if is_checkpointed else ())


@pytest.mark.parametrize("is_checkpointed", [True, False])
async def test_what_is_lost_is_told_also_when_the_first_to_be_told_has_left(
    slow: Server, is_checkpointed: bool
) -> None:
    done = await slow.run("x = 1")
    if is_checkpointed:
        assert await exported(slow, done.session_id)
    await slow.run("y = 2", session_id=done.session_id)
    await slow.run("import os; os._exit(3)", session_id=done.session_id)
    await _lose_caller(slow, done.session_id)
    again = await slow.run("print('y' in globals())", session_id=done.session_id)
    assert (again.stdout, again.is_new_runtime, _lost(again)) == ("False\n", True, ["*"])


async def test_what_is_lost_is_told_also_when_there_was_no_box_at_first(make: Make) -> None:
    server = make(checkpoint_s=3600, max_boxes=1)
    await server.service.start()
    done = await server.run("x = 1")
    await _lose_box_between_runs(server, done.session_id)
    other = asyncio.create_task(server.run("import time; time.sleep(2)"))
    await asyncio.sleep(1)
    with pytest.raises(errors.Unavailable):
        await server.run("x", session_id=done.session_id)
    await other
    again = await server.run("print('x' in globals())", session_id=done.session_id)
    assert (again.stdout, again.is_new_runtime, _lost(again)) == ("False\n", True, ["*"])


@pytest.mark.parametrize("lose", [_lose_box_between_runs, _lose_caller])
async def test_a_session_that_is_killed_after_a_loss_still_tells_of_it(
    slow: Server, lose: Callable[[Server, str], Awaitable[None]]
) -> None:
    done = await slow.run("x = 1")
    assert await exported(slow, done.session_id)
    await slow.run("y = 2", session_id=done.session_id)
    await lose(slow, done.session_id)
    await slow.service.kill_session(ANNA, done.session_id)
    again = await slow.run("print(x)", session_id=done.session_id)
    assert (again.stdout, again.restored, _lost(again)) == ("1\n", ("x",), ["*"])


def test_what_has_come_back_at_last_is_not_told_as_lost() -> None:
    x, y = Dropped(name="x", reason="away"), Dropped(name="y", reason="a generator")
    first = Readied(is_new_runtime=True, lost=(x, y))
    assert Readied(is_new_runtime=True, restored=("x",)).after(first).lost == (y,)
    assert Readied().after(first) == first


async def test_what_a_list_of_variables_has_brought_back_is_told_by_the_next_run(slow: Server) -> None:
    done = await slow.run("x = 1; kept = (one for one in 'generators are in no checkpoint')")
    await slow.service.kill_session(ANNA, done.session_id)
    for _ in range(2):
        assert [one.name for one in await slow.service.variables(ANNA, done.session_id)] == ["x"]
    again = await slow.run("print(x)", session_id=done.session_id)
    assert (again.stdout, again.is_new_runtime, again.restored, _lost(again)) == ("1\n", True, ("x",), ["kept"])
    third = await slow.run("print(x)", session_id=done.session_id)
    assert (third.is_new_runtime, third.restored, third.lost) == (False, (), ())


async def test_a_run_that_ends_an_interpreter_whose_variables_are_written_down_loses_nothing(slow: Server) -> None:
    done = await slow.run("x = 1")
    assert await exported(slow, done.session_id)
    await slow.run("import os; os._exit(3)", session_id=done.session_id)
    again = await slow.run("print(x)", session_id=done.session_id)
    assert (again.stdout, again.is_new_runtime, again.restored, again.lost) == ("1\n", True, ("x",), ())


async def test_what_ended_before_any_checkpoint_is_told_as_lost(server: Server) -> None:
    done = await server.run(_DIES_WHEN_WRITTEN)
    await until(lambda: server.backend.running() == [])
    again = await server.run("print('fatal' in globals())", session_id=done.session_id)
    assert (again.stdout, again.is_new_runtime, _lost(again)) == ("False\n", True, ["*"])


async def test_files_of_a_failed_run_outlive_an_interpreter_that_ends_over_its_checkpoint(server: Server) -> None:
    done = await server.run(_DIES_WHEN_WRITTEN + "open('a.txt', 'w').write('a')\n1/0")
    await until(lambda: server.backend.running() == [])
    again = await server.run("print(open('a.txt').read())", session_id=done.session_id)
    assert (again.stdout, [file.path for file in again.files]) == ("a\n", ["a.txt"])


async def test_a_checkpoint_without_room_is_told_and_the_last_one_says_what_it_lacks(make: Make) -> None:
    server = make(checkpoint_s=3600, limits=SandboxLimits(stored_bytes=1 << 20))
    await server.service.start()
    done = await server.run("x = 1\nimport random")
    assert await exported(server, done.session_id)
    await server.run("x, big = 2, random.randbytes(2 << 20)", session_id=done.session_id)
    with pytest.raises(errors.QuotaExhausted):
        await exported(server, done.session_id)
    info = await server.service.state_info(ANNA, done.session_id)
    assert (info.is_live, info.is_durable, [one.name for one in info.dropped]) == (True, False, ["*"])
    await server.service.kill_session(ANNA, done.session_id)
    again = await server.run("print(x, 'big' in globals())", session_id=done.session_id)
    assert (again.stdout, _lost(again)) == ("1 False\n", ["*"])
    assert "do not fit" in again.lost[0].reason


async def test_a_checkpoint_says_once_what_it_lacks_however_often_the_next_fails(
    make: Make, database: Database
) -> None:
    server = make(checkpoint_s=3600, limits=SandboxLimits(stored_bytes=1 << 20))
    await server.service.start()
    done = await server.run("x = 1\nimport random")
    assert await exported(server, done.session_id)
    await server.run("big = random.randbytes(2 << 20)", session_id=done.session_id)
    revisions = []
    for _ in range(2):
        with pytest.raises(errors.QuotaExhausted):
            await exported(server, done.session_id)
        with database.read() as connection:
            revisions.append(connection.execute(text("select revision from sandbox_sessions")).scalar_one())
    assert revisions[0] == revisions[1]


async def test_a_checkpoint_that_has_all_again_lacks_nothing(make: Make) -> None:
    server = make(checkpoint_s=3600, limits=SandboxLimits(stored_bytes=1 << 20))
    await server.service.start()
    done = await server.run("x = 1\nimport random")
    assert await exported(server, done.session_id)
    await server.run("big = random.randbytes(2 << 20)", session_id=done.session_id)
    with pytest.raises(errors.QuotaExhausted):
        await exported(server, done.session_id)
    await server.run("del big", session_id=done.session_id)
    assert await exported(server, done.session_id)
    assert (await server.service.state_info(ANNA, done.session_id)).dropped == ()


async def _put_away(server: Server, flag: Path) -> str:
    await asyncio.to_thread(flag.touch)
    done = await server.run(_DIES_WHEN_READ.replace("FLAG", repr(str(flag))))
    await server.service.kill_session(ANNA, done.session_id)
    return done.session_id


async def test_a_restore_that_fails_once_is_tried_again(slow: Server, tmp_path: Path) -> None:
    session = await _put_away(slow, tmp_path / "once")
    again = await slow.run("print(x)", session_id=session)
    assert (again.stdout, again.is_new_runtime, again.lost) == ("1\n", True, ())
    assert not (await slow.run("y = x", session_id=session)).is_new_runtime


@pytest.mark.parametrize("code", ["print('x' in globals())", "open('a.txt', 'w').write('a'); print('x' in globals())"])
async def test_a_state_that_could_not_be_restored_is_kept(slow: Server, tmp_path: Path, code: str) -> None:
    flag = tmp_path / "always"
    session = await _put_away(slow, flag)
    failed = await slow.run(code, session_id=session)
    assert (failed.stdout, failed.is_new_runtime, failed.restored) == ("False\n", True, ())
    assert set(_lost(failed)) >= {"x", "frail"}
    flag.unlink()
    again = await slow.run("print(x)", session_id=session)
    assert (again.stdout, again.is_new_runtime, again.lost) == ("1\n", True, ())


async def test_a_state_that_was_out_of_reach_is_kept_over_a_run_that_defines_nothing(slow: Server) -> None:
    done = await slow.run("x = 1")
    raw = await exported(slow, done.session_id)
    await slow.service.kill_session(ANNA, done.session_id)
    assert await slow.blobs.delete(hashlib.sha256(raw).hexdigest())
    failed = await slow.run("print(0)", session_id=done.session_id)
    assert (failed.stdout, _lost(failed)) == ("0\n", ["x"])
    await slow.blobs.put_bytes(raw)
    again = await slow.run("print(x)", session_id=done.session_id)
    assert (again.stdout, again.restored) == ("1\n", ("x",))


async def test_code_that_defines_something_replaces_a_state_that_could_not_be_restored(
    slow: Server, tmp_path: Path
) -> None:
    session = await _put_away(slow, tmp_path / "always")
    await slow.run("y = 2", session_id=session)
    assert await exported(slow, session)
    assert (await slow.service.state_info(ANNA, session)).kept == ("y",)


async def test_a_state_that_could_not_be_restored_can_be_deleted(slow: Server, tmp_path: Path) -> None:
    session = await _put_away(slow, tmp_path / "always")
    await slow.run("open('a.txt', 'w').write('a')", session_id=session)
    await slow.service.delete_state(ANNA, session)
    assert (await slow.service.state_info(ANNA, session)).sha256 is None


async def test_boxes_that_cannot_be_put_away_are_told_with_the_cause(make: Make) -> None:
    server = make(max_boxes=1, checkpoint_s=3600)
    await server.service.start()
    await server.run("x = 1")
    server.blobs.is_full = True
    with pytest.raises(errors.Unavailable, match=r"1 that idle hold what cannot be written down \(.*disk"):
        await server.run("y = 1")
    server.blobs.is_full = False
