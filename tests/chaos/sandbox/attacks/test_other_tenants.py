"""Attacks on those who use the same machine: before, at the same time, and afterwards."""

import asyncio
import os

import pytest
import pytest_asyncio

from tests.chaos.sandbox.attacks.attempts import PRELUDE, said
from tests.contract.sandbox.backends.local.grounds import Grounds
from tests.contract.sandbox.backends.orders import put, run, shell
from trainyard.sandbox.backends.base import Box

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "canary-of-the-neighbour"


@pytest_asyncio.fixture(loop_scope="session")
async def secretive(neighbour: Box) -> Box:
    await run(
        neighbour,
        f"secret = {SECRET!r}\n"
        "for place in ('/tmp', '/dev/shm', '/mnt/data'): open(f'{place}/secret', 'w').write(secret)",
    )
    return neighbour


@pytest.mark.parametrize("place", ["/tmp", "/dev/shm", "/mnt/data"])  # noqa: S108 - of the box
async def test_reading_a_neighbours_files(box: Box, secretive: Box, place: str) -> None:
    assert await said(box, f"print(os.listdir({place!r}))") == "[]"


async def test_reading_what_the_one_before_has_left(ground: Grounds) -> None:
    before = await ground.backend.take("lean", "one")
    await put(before, "secret.txt", SECRET.encode())
    await run(
        before,
        f"import os\nos.environ['S'] = {SECRET!r}\nopen('/tmp/s', 'w').write('x')\nopen('/dev/shm/s', 'w').write('x')",
    )
    await before.close()

    after = await ground.backend.take("lean", "two")
    found = await said(
        after, "print([os.listdir(place) for place in ('/tmp', '/dev/shm', '/mnt/data')], os.environ.get('S'))"
    )
    await after.close()

    assert found == "[[], [], []] None"


@pytest.mark.skipif(os.getuid() != 0, reason="an ordinary user has one user id to give")
async def test_getting_the_user_id_of_another(ground: Grounds) -> None:
    boxes = [await ground.backend.take("lean", f"tenant-{number}") for number in range(4)]
    users = [await said(each, "print(open('/proc/self/uid_map').read().split()[1])") for each in boxes]
    for each in boxes:
        await each.close()

    assert len(set(users)) == 4
    assert "0" not in users


async def test_searching_its_own_memory_for_a_neighbours(box: Box, secretive: Box) -> None:
    halves = SECRET[:9], SECRET[9:]
    code = f"""
wanted, found = ({halves[0]!r} + {halves[1]!r}).encode(), 0
for line in open('/proc/self/maps'):
    if 'r' in line.split()[1] and not line.rstrip().endswith(('[vvar]', '[vsyscall]', '[vvar_vclock]')):
        begin, end = (int(part, 16) for part in line.split()[0].split('-'))
        with open('/proc/self/mem', 'rb', 0) as memory:
            try:
                memory.seek(begin)
                while begin < end:
                    piece = memory.read(min(end - begin, 1 << 20))
                    if not piece: break
                    begin += len(piece)
                    found += piece.count(wanted)
            except (OSError, OverflowError): pass
print(found)
"""
    assert int(await said(box, code)) <= 8, "its own copies of what it searches for"
    assert (await run(secretive, "print(secret)")).stdout.decode().strip() == SECRET


async def test_leaving_a_lock_or_a_name_for_others(box: Box, neighbour: Box) -> None:
    code = """
s = socket.socket(socket.AF_UNIX)
s.bind('\\0meeting')
s.listen()
t = socket.create_server(('127.0.0.1', 7777))
print('there')
"""
    assert await said(box, code) == "there"

    kept = await run(
        neighbour,
        f"{PRELUDE}print(tried(socket.socket(socket.AF_UNIX).connect, '\\0meeting'),"
        "tried(socket.create_connection, ('127.0.0.1', 7777)))",
    )
    assert kept.stdout == b"ECONNREFUSED ECONNREFUSED\n"


async def test_changing_what_all_boxes_have_loaded(box: Box, ground: Grounds) -> None:
    code = """
import json, builtins
json.dumps = lambda *a, **k: 'evil'
builtins.print = None
ctypes.memmove(id('__evil__'), b'x', 0)
"""
    await run(box, PRELUDE + code)
    other = await ground.backend.take("lean", "two")

    assert await said(other, "import json\nprint(json.dumps(1))") == "1"
    await other.close()


async def test_writing_into_programs_that_all_boxes_run(box: Box) -> None:
    code = """
import shutil
programs = (sys.executable, '/bin/sh', os.__file__, '/opt/sandbox/pyvenv.cfg')
tries = {tried(os.open, path, os.O_RDWR) for path in programs}
for path in ('/bin/sh', os.__file__):
    room = mmap.mmap(os.open(path, 0), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    room[0:4] = b'evil'
    tries.add(tried(shutil.copyfile, '/etc/passwd', path))
print(tries, open('/bin/sh', 'rb').read(4) == b'evil')
"""
    answer = await said(box, code)

    assert "done" not in answer
    assert answer.endswith("False")
    assert (await shell(box, "echo well")).stdout == b"well\n"


async def test_running_in_the_time_of_another(box: Box, neighbour: Box) -> None:
    kept, _ = await asyncio.gather(
        run(neighbour, "import time\nbefore = time.process_time()\nfor _ in range(100_000): pass\nprint(x)"),
        run(box, "while True: pass", timeout_s=1),
    )

    assert kept.stdout == b"41\n"
    assert kept.report.cpu_s < 0.5, "it pays for itself alone"
