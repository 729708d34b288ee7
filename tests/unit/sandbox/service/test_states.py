"""Variables of sessions: kept, brought back, exported, imported, forgotten."""

import asyncio
import hashlib
import os
import signal
from collections.abc import AsyncIterator, Callable

import pytest

from tests.unit.sandbox.service.conftest import ANNA, BERT, CARL, Make, Server, uploads
from trainyard.core import errors
from trainyard.core.principal import Principal
from trainyard.core.settings import SandboxLimits
from trainyard.sandbox.types.domain import StateInfo, Upload


async def until(is_so: Callable[[], object], wait_s: float = 20.0) -> None:
    """Wait for something that happens in the background."""
    async with asyncio.timeout(wait_s):
        while not is_so():  # noqa: ASYNC110 - a process has no event
            await asyncio.sleep(0.01)


async def durable(server: Server, session: str) -> StateInfo:
    """Wait for the checkpoint of a session."""
    async with asyncio.timeout(20):
        while True:
            info = await server.service.state_info(ANNA, session)
            if info.is_durable and info.sha256 is not None:
                return info
            await asyncio.sleep(0.01)


async def exported(server: Server, session: str, who: Principal = ANNA) -> bytes:
    """Read a state."""
    _, content = await server.service.read_state(who, session)
    return b"".join([piece async for piece in content])


async def pieces(raw: bytes, size: int = 7) -> AsyncIterator[bytes]:
    """Give bytes as they may come."""
    for start in range(0, len(raw), size):
        yield raw[start : start + size]


def kill_boxes(server: Server) -> None:
    """End the boxes of a server from outside, as the kernel does it when memory runs out."""
    for box in server.backend.running():
        assert box.pid is not None
        os.kill(box.pid, signal.SIGKILL)


async def test_a_state_is_written_down_soon_after_the_run(server: Server) -> None:
    done = await server.run("x = 1\nf = lambda: x + 1\nopen_file = open('/dev/null')")
    assert done.state is not None
    assert (done.state.is_live, done.state.is_durable) == (True, False)
    info = await durable(server, done.session_id)
    assert set(info.kept) >= {"x", "f"}
    assert [one.name for one in info.dropped] == ["open_file"]
    assert info.size_bytes > 0


async def test_a_session_goes_on_in_another_process_after_the_first_has_ended(make: Make) -> None:
    first, second = make(), make()
    await first.service.start()
    done = await first.run("x = {'a': 1}\nopen('kept.txt', 'w').write('file')\nopen_file = open('/dev/null')")
    await first.service.aclose()
    assert first.backend.running() == []
    await second.service.start()
    again = await second.run("print(x, open('kept.txt').read())", session_id=done.session_id)
    assert again.stdout == "{'a': 1} file\n"
    assert again.is_new_runtime
    assert again.restored == ("x",)
    assert [one.name for one in again.lost] == ["open_file"]


async def test_a_box_that_died_is_replaced_from_the_checkpoint(server: Server) -> None:
    done = await server.run("x = 1\nopen('a.txt', 'w').write('a')")
    await durable(server, done.session_id)
    kill_boxes(server)
    await asyncio.sleep(0.1)
    again = await server.run("print(x, open('a.txt').read())", session_id=done.session_id)
    assert (again.stdout, again.is_new_runtime, again.restored) == ("1 a\n", True, ("x",))


async def test_a_box_that_dies_under_its_code_is_a_result(server: Server) -> None:
    done = await server.run("x = 1")
    await durable(server, done.session_id)
    running = asyncio.create_task(server.run("y = 2; import time; time.sleep(60)", session_id=done.session_id))
    await asyncio.sleep(0.3)
    kill_boxes(server)
    ended = await running
    assert (ended.exit_code, ended.signal, ended.reason) == (None, "SIGKILL", "killed")
    again = await server.run("print(x, 'y' in globals())", session_id=done.session_id)
    assert (again.stdout, again.is_new_runtime) == ("1 False\n", True)


async def test_after_a_timeout_the_last_checkpoint_comes_back(server: Server) -> None:
    done = await server.run("x = 1")
    await durable(server, done.session_id)
    late = await server.run("import os\nwhile True: os.getpid()", session_id=done.session_id, timeout_s=0.3)
    assert late.reason == "timeout"
    again = await server.run("print(x)", session_id=done.session_id)
    assert again.stdout == "1\n"


async def test_a_run_that_leaves_nothing_keeps_no_box(server: Server) -> None:
    done = await server.run("print(1)")
    await until(lambda: server.backend.running() == [])
    assert done.state is not None
    assert not done.state.is_live
    assert (await server.run("print(2)", session_id=done.session_id)).stdout == "2\n"


async def test_an_exported_state_can_be_imported_into_another_session(server: Server) -> None:
    done = await server.run("x = [1, 2]")
    raw = await exported(server, done.session_id)
    info = await server.service.state_info(ANNA, done.session_id)
    assert (info.sha256, info.size_bytes) == (hashlib.sha256(raw).hexdigest(), len(raw))
    other = await server.run("y = 5\nopen('stays', 'w')", BERT)
    written = await server.service.write_state(BERT, other.session_id, pieces(raw))
    assert (written.kept, written.sha256) == (("x",), info.sha256)
    again = await server.run("print(x, 'y' in globals(), open('stays').read())", BERT, session_id=other.session_id)
    assert (again.stdout, again.restored) == ("[1, 2] False \n", ("x",))


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "0 bytes are too few"),
        (b"\x03", "1 bytes are too few"),
        (b"\x01" + b"lz4" * 10, "begins with the byte 3"),
        (b"\x02" + b"lz4" * 10, "begins with the byte 3"),
        (b"\x03\xff\xff\xff\xff", "at most"),
        (b"\x03\x00\x00\x00\x02[]", "lacks fields"),
        (b"\x03\x00\x00\x00\x09{}", "ends at byte 14"),
        (b"\x03\x00\x00\x00\x02no", "no JSON"),
    ],
)
async def test_what_is_no_state_is_refused_and_nothing_of_it_stays(server: Server, raw: bytes, why: str) -> None:
    session, _ = await server.upload(a="1")
    with pytest.raises(errors.InvalidRequest, match=why) as caught:
        await server.service.write_state(ANNA, session, pieces(raw))
    assert caught.value.code == "invalid_state"
    await server.service.gc(stray_s=0)
    assert len([blob async for blob in server.blobs.stored(min_age_s=0)]) == 1


async def test_a_state_whose_end_is_missing_is_refused(server: Server) -> None:
    done = await server.run("x = 'y' * 1000")
    raw = await exported(server, done.session_id)
    with pytest.raises(errors.InvalidRequest, match=f"by its header it has {len(raw)} bytes, but there are"):
        await server.service.write_state(ANNA, done.session_id, pieces(raw[:-1]))
    assert (await server.run("print(len(x))", session_id=done.session_id)).stdout == "1000\n"


async def test_a_state_may_not_be_too_large(make: Make) -> None:
    server = make(limits=SandboxLimits(state_bytes=5000))
    await server.service.start()
    done = await server.run("x = 1\nbig = b'x' * 10_000")
    info = await durable(server, done.session_id)
    assert "x" in info.kept
    assert [one.name for one in info.dropped] == ["big"]
    with pytest.raises(errors.TooLarge):
        await server.service.write_state(ANNA, done.session_id, pieces(b"\x03\x00\x00\x00\x02{}" + b"x" * 5000, 1000))


async def test_a_deleted_state_is_gone_and_files_stay(server: Server) -> None:
    done = await server.run("x = 1\nopen('a', 'w').write('a')")
    await server.service.delete_state(ANNA, done.session_id)
    with pytest.raises(errors.NotFound) as caught:
        await server.service.read_state(ANNA, done.session_id)
    assert caught.value.code == "state_not_found"
    again = await server.run("print('x' in globals(), open('a').read())", session_id=done.session_id)
    assert (again.stdout, again.restored) == ("False a\n", ())


async def test_variables_are_listed_also_of_a_session_that_is_not_live(server: Server) -> None:
    done = await server.run("x = 1")
    assert [(one.name, one.type) for one in await server.service.variables(ANNA, done.session_id)] == [("x", "int")]
    assert await server.service.kill_session(ANNA, done.session_id)
    assert not await server.service.kill_session(ANNA, done.session_id)
    assert [one.name for one in await server.service.variables(ANNA, done.session_id)] == ["x"]
    empty, _ = await server.upload(a="1")
    assert await server.service.variables(ANNA, empty) == []


@pytest.mark.parametrize("who", [BERT, CARL])
async def test_a_strangers_state_is_not_there(server: Server, who: Principal) -> None:
    done = await server.run("x = 1")
    service = server.service
    calls = [
        lambda s: service.state_info(who, s),
        lambda s: service.read_state(who, s),
        lambda s: service.write_state(who, s, pieces(b"\x03")),
        lambda s: service.delete_state(who, s),
        lambda s: service.variables(who, s),
        lambda s: service.reset(who, s),
        lambda s: service.interrupt(who, s),
        lambda s: service.kill_session(who, s),
        lambda s: service.delete_session(who, s),
        lambda s: service.show_session(who, s),
    ]
    for call in calls:
        told = []
        for session in (done.session_id, "Z" * 21):
            with pytest.raises(errors.NotFound) as caught:
                await call(session)  # type: ignore[no-untyped-call]
            told.append((caught.value.code, caught.value.message, caught.value.data))
        assert told[0] == told[1]
    assert (await server.run("print(x)", session_id=done.session_id)).stdout == "1\n"


async def test_a_state_that_cannot_be_read_any_more_is_told_as_lost(server: Server) -> None:
    done = await server.run("x = 1")
    info = await durable(server, done.session_id)
    await server.service.kill_session(ANNA, done.session_id)
    assert info.sha256 is not None
    await server.blobs.delete(info.sha256)
    again = await server.run("print('x' in globals())", session_id=done.session_id)
    assert (again.stdout, again.restored, [one.name for one in again.lost]) == ("False\n", (), ["x"])


async def test_an_upload_that_fails_in_the_middle_leaves_nothing(server: Server) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"begin"
        raise ConnectionResetError

    async def files() -> AsyncIterator[Upload]:
        async for upload in uploads({"a": "fine"}):
            yield upload
            yield Upload(path="b", content=broken())

    with pytest.raises(ConnectionResetError):
        await server.service.upload(ANNA, files())
    await until(lambda: not server.blobs._contents)
    assert server.meter.running == []


async def test_a_full_disk_puts_no_session_away_and_keeps_no_server_from_ending(make: Make) -> None:
    server = make(max_boxes=1, checkpoint_s=3600)
    await server.service.start()
    first = await server.run("x = 1")
    server.blobs.is_full = True
    with pytest.raises(errors.Unavailable) as caught:
        await server.run("y = 1")
    assert caught.value.code == "sandbox_full"
    assert (await server.run("print(x)", session_id=first.session_id)).stdout == "1\n"
    await server.service.aclose()
    assert server.backend.running() == []


async def test_a_state_that_cannot_be_written_now_is_no_old_one(make: Make) -> None:
    server = make(checkpoint_s=3600)
    await server.service.start()
    done = await server.run("x = 1")
    assert hashlib.sha256(await exported(server, done.session_id)).hexdigest()
    await server.run("x = 2", session_id=done.session_id)
    server.blobs.is_full = True
    with pytest.raises(errors.Unavailable) as caught:
        await exported(server, done.session_id)
    assert caught.value.code == "disk_full"


async def test_a_checkpoint_is_tried_again_when_the_disk_has_room_again(make: Make) -> None:
    server = make()
    await server.service.start()
    server.blobs.is_full = True
    done = await server.run("x = 1")
    await until(lambda: server.blobs.refused)
    server.blobs.is_full = False
    assert "x" in (await durable(server, done.session_id)).kept
