"""What runs leave behind that failed, and outputs that find no room."""

import pytest

from tests.unit.sandbox.service.conftest import ANNA, Make, Server
from trainyard.core.settings import SandboxLimits


@pytest.fixture
async def slow(make: Make) -> Server:
    """A server that writes down what runs have left when it is asked to."""
    server = make(checkpoint_s=3600)
    await server.service.start()
    return server


async def _written_down(server: Server, session: str) -> None:
    """Have what is only in the box in the database too: whoever reads a state waits for that."""
    await server.run("counted = globals().get('counted', 0) + 1\n1/0", session_id=session)
    _, content = await server.service.read_state(ANNA, session)
    assert [piece async for piece in content]


async def _after_its_box(server: Server, session: str) -> tuple[str, list[str]]:
    """Tell what the next box has, and what its first success registers."""
    await server.service.kill_session(ANNA, session)
    again = await server.run("import os; print(sorted(os.listdir()))", session_id=session)
    return again.stdout, [file.path for file in again.files]


async def test_what_a_failed_run_left_and_a_success_removed_does_not_come_back(slow: Server) -> None:
    failed = await slow.run("open('a.txt', 'w').write('a' * 1000)\nx = 1\n1/0")
    await _written_down(slow, failed.session_id)
    done = await slow.run("import os; os.remove('a.txt')", session_id=failed.session_id)
    assert (done.files, done.deleted) == ((), ())
    assert await _after_its_box(slow, failed.session_id) == ("[]\n", [])


async def test_what_one_failed_run_left_and_another_removed_does_not_come_back(slow: Server) -> None:
    failed = await slow.run("open('a.txt', 'w').write('a' * 1000)\nx = 1\n1/0")
    await _written_down(slow, failed.session_id)
    await slow.run("import os; os.remove('a.txt')\n1/0", session_id=failed.session_id)
    await _written_down(slow, failed.session_id)
    assert await _after_its_box(slow, failed.session_id) == ("[]\n", [])


async def test_what_a_failed_run_left_is_stored_once_and_again_when_it_has_changed(slow: Server) -> None:
    failed = await slow.run("x = 1\nopen('a.txt', 'w').write('a')\n1/0")
    session = failed.session_id
    await _written_down(slow, session)
    stored = [blob async for blob in slow.blobs.stored(min_age_s=0)]
    fetched = slow.blobs.put
    await _written_down(slow, session)
    assert slow.blobs.put == fetched + 1  # the state alone
    await slow.run("open('a.txt', 'w').write('b')\n1/0", session_id=session)
    await _written_down(slow, session)
    assert slow.blobs.put == fetched + 3
    assert len(stored) == 2
    await slow.service.kill_session(ANNA, session)
    again = await slow.run("print(open('a.txt').read())", session_id=session)
    assert (again.stdout, [file.path for file in again.files]) == ("b\n", ["a.txt"])


async def test_what_came_back_as_it_was_stored_is_not_stored_again_and_what_changed_is(slow: Server) -> None:
    failed = await slow.run("x = 1\nopen('a.txt', 'w').write('a')\nopen('b.txt', 'w').write('b')\n1/0")
    session = failed.session_id
    await slow.service.kill_session(ANNA, session)
    await slow.run("open('b.txt', 'w').write('c')\n1/0", session_id=session)
    stored = slow.blobs.put
    await slow.service.kill_session(ANNA, session)
    assert slow.blobs.put == stored + 1  # b.txt alone: the state is as it was
    again = await slow.run("print(open('a.txt').read(), open('b.txt').read())", session_id=session)
    assert (again.stdout, [file.path for file in again.files]) == ("a c\n", ["a.txt", "b.txt"])


async def test_a_log_without_room_is_told(make: Make) -> None:
    server = make(limits=SandboxLimits(stored_bytes=1 << 20, output_bytes=1 << 10))
    await server.service.start()
    done = await server.run("print('x' * (2 << 20))")
    assert (done.stdout_stream.is_cut, done.logs) == (True, ())
    assert list(done.failed_files) == ["logs/stdout.txt"]
    assert "do not fit" in done.failed_files["logs/stdout.txt"]
