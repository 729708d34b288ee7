"""Attacks that take all there is: memory, processes, files, descriptors, processors, output."""

import asyncio

import pytest

from tests.chaos.sandbox.attacks.attempts import PRELUDE, said
from tests.contract.sandbox.backends.orders import run, shell
from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.types.orders import Reason

pytestmark = pytest.mark.asyncio(loop_scope="session")

GROW = "x = []\nwhile True: x.append(bytearray(b'y' * (1 << 20)))"
MEMORY = {
    "in_the_code_itself": GROW,
    "in_a_child": (
        "if not os.fork():\n    x = []\n    while True: x.append(b'y' * (1 << 20) + os.urandom(9))\nos.wait()"
    ),
    "in_many_children": (
        "for _ in range(20):\n    if not os.fork():\n        x = b'y' * (32 << 20)\n        time.sleep(20)\n"
        "time.sleep(20)"
    ),
    "in_a_thread": f"threading.Thread(target=exec, args=({GROW!r}, {{}})).start()\ntime.sleep(20)",
    "in_shared_mappings": (
        "x = []\nwhile True:\n    x.append(mmap.mmap(-1, 8 << 20))\n    x[-1].write(b'y' * (8 << 20))"
    ),
    "in_files_of_the_workspace": "for n in range(99): open(f'f{n}', 'wb').write(b'y' * (4 << 20))\ntime.sleep(20)",
    "in_files_that_are_unlinked": (
        "x = []\nfor n in range(60):\n    x.append(open('/tmp/f', 'wb'))\n    x[-1].write(b'y' * (4 << 20))\n"
        "    os.unlink('/tmp/f')\ntime.sleep(20)"
    ),
    "in_dev_shm": (
        "for place in ('/dev/shm', '/tmp', '/mnt/data'):\n    try:\n"
        "        for n in range(60): open(f'{place}/f{n}', 'wb', 0).write(b'y' * (1 << 20))\n"
        "    except OSError: pass\ntime.sleep(20)"
    ),
    "in_stacks_of_threads": (
        "threading.stack_size(32 << 20)\ndef deep():\n    held = bytearray(b'y' * (4 << 20))\n    time.sleep(20)\n"
        "for _ in range(50): threading.Thread(target=deep, daemon=True).start()\ntime.sleep(20)"
    ),
    "in_buffers_of_sockets": (
        "def fill():\n    held = []\n    while True:\n        held.append(socket.socketpair())\n"
        "        held[-1][0].setblocking(False)\n"
        "        tried(lambda: [held[-1][0].send(b'y' * 8192) for _ in range(99)])\n"
        "for _ in range(20):\n    if not os.fork():\n        tried(fill)\n        time.sleep(20)\ntime.sleep(20)"
    ),
    "in_one_big_number": "x = 1 << (1 << 33)\nprint(x.bit_length())\ntime.sleep(20)",
    "in_a_string_that_doubles": "x = 'y'\nwhile True: x += x",
}
SMALL_BYTES = 128 << 20


@pytest.mark.parametrize("place", sorted(MEMORY))
async def test_taking_all_memory(box: Box, place: str) -> None:
    kept = await run(box, PRELUDE + MEMORY[place], memory_bytes=SMALL_BYTES, timeout_s=15)

    assert kept.report.reason is Reason.MEMORY or b"MemoryError" in kept.stderr
    assert kept.report.wall_s < 15
    assert (await box.usage()).processes == 1


async def test_taking_all_memory_by_a_compiled_program(box: Box) -> None:
    kept = await shell(box, "head -c 400M /dev/zero | tail -c 300M >/dev/null", memory_bytes=SMALL_BYTES, timeout_s=15)

    assert kept.report.reason is Reason.MEMORY


async def test_reserving_more_addresses_than_there_are(box: Box) -> None:
    code = "print(*[tried(mmap.mmap, -1, size) for size in (1 << 40, 1 << 46)])"

    assert set((await said(box, code)).split()) <= {"ENOMEM", "EINVAL"}


FORKS = {
    "a_fork_bomb": "while True:\n    try: os.fork()\n    except OSError: pass",
    "a_fork_bomb_that_changes_its_parents": (
        "while True:\n    try:\n        if os.fork(): os._exit(0)\n        os.setsid()\n    except OSError: pass"
    ),
    "a_thread_bomb": (
        "while True:\n    try: threading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n"
        "    except RuntimeError: time.sleep(0.01)"
    ),
    "a_bomb_of_threads_in_processes": (
        "for _ in range(8):\n    if not os.fork():\n        while True:\n"
        "            try: threading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n"
        "            except RuntimeError: time.sleep(0.01)\ntime.sleep(99)"
    ),
}


@pytest.mark.parametrize("kind", sorted(FORKS))
async def test_beginning_processes_without_end(box: Box, neighbour: Box, kind: str) -> None:
    running = asyncio.ensure_future(run(box, PRELUDE + FORKS[kind], timeout_s=1))
    await asyncio.sleep(0.5)

    kept = await run(neighbour, "import subprocess\nprint(x, subprocess.run(['true']).returncode)")

    assert (kept.stdout, kept.report.was_reset) == (b"41 0\n", False)
    await running
    assert (await box.usage()).processes == 1


async def test_beginning_processes_without_end_from_a_shell(box: Box) -> None:
    kept = await shell(box, "f() { f | f & }; f; sleep 99", timeout_s=1)

    assert kept.report.wall_s < 10
    assert (await box.usage()).processes == 1


async def test_opening_files_without_end(box: Box) -> None:
    code = """
x = []
try:
    while True: x.append(open('/dev/null'))
except OSError as error: print(error.errno, len(x) < 300)
"""

    assert await said(box, code) == "24 True"
    await run(box, "x.clear()")


@pytest.mark.parametrize("place", ["/mnt/data", "/tmp", "/dev/shm"])  # noqa: S108 - of the box
async def test_filling_a_disk(box: Box, place: str) -> None:
    code = f"""
piece, count = bytes(1 << 20), 0
try:
    for number in range(4):
        with open('{place}/f%d' % number, 'wb', 0) as file:
            for _ in range(100): count += file.write(piece)
except OSError as error: print(errno.errorcode[error.errno], count <= 256 << 20)
else: print('done', count)
"""
    kept = await run(box, PRELUDE + code, memory_bytes=1 << 30)

    assert kept.stdout in (b"ENOSPC True\n", b"EFBIG True\n")


@pytest.mark.parametrize(
    "kind", ["open(name, 'w').close()", "os.mkdir(name)", "os.symlink('x', name)", "os.mkfifo(name)"]
)
async def test_using_up_all_inodes(box: Box, kind: str) -> None:
    code = f"""
try:
    for number in range(30000):
        name = f'f{{number}}'
        {kind}
except OSError as error: print(errno.errorcode[error.errno], number <= 20000)
"""
    kept = await run(box, PRELUDE + code, memory_bytes=1 << 30)

    assert kept.stdout == b"ENOSPC True\n"
    assert (await shell(box, "find . -mindepth 1 -delete", memory_bytes=1 << 30)).report.exit_code == 0


async def test_making_a_file_that_is_huge_and_empty(box: Box) -> None:
    code = """
print(tried(lambda: open('big', 'wb').truncate(1 << 40)), tried(os.posix_fallocate, os.open('b', 66), 0, 1 << 40))
"""

    assert set((await said(box, code)).split()) <= {"EFBIG", "ENOSPC"}


async def test_making_folders_without_end(box: Box) -> None:
    """Landlock looks at all folders above for each that is opened, so that time grows with the square of the depth."""
    code = """
end = time.monotonic() + 2
while time.monotonic() < end:
    os.mkdir('d')
    os.chdir('d')
"""
    kept = await run(box, PRELUDE + code, memory_bytes=1 << 30)

    assert kept.report.skipped == [] or kept.report.skipped[0].endswith("path is too long")
    assert kept.report.wall_s < 12


async def test_taking_every_processor(box: Box, neighbour: Box) -> None:
    code = "for _ in range(16): os.fork() if os.getpid() % 2 else None\nwhile True: pass"
    running = asyncio.ensure_future(run(box, PRELUDE + code, timeout_s=1.5))
    await asyncio.sleep(0.3)

    for _ in range(5):
        assert (await run(neighbour, "print(x)", timeout_s=10)).stdout == b"41\n"
    assert (await running).report.reason in (Reason.TIMEOUT, Reason.CPU)


FLOODS = {
    "to_both_streams": "while True: os.write(1, b'o' * 65536); os.write(2, b'e' * 65536)",
    "in_single_characters": "while True: print(end='x', flush=True)",
    "without_a_line_end": "import sys\nsys.stdout.write('x' * (64 << 20))",
    "from_many_processes": "for _ in range(4): os.fork()\nwhile True: os.write(2, b'x' * 4096)",
    "of_escape_sequences": "while True: print('\\x1b[2J\\x1b]0;evil\\x07\\0' * 1000)",
}


@pytest.mark.parametrize("kind", sorted(FLOODS))
async def test_flooding_its_output(box: Box, kind: str) -> None:
    kept = await run(box, PRELUDE + FLOODS[kind], log_bytes=1 << 20, output_bytes=4096, timeout_s=2)

    assert kept.report.reason in (Reason.OUTPUT, Reason.TIMEOUT)
    assert len(kept.stdout) <= 4096
    assert len(kept.stderr) <= 4096


async def test_waiting_for_ever_with_its_output_open(box: Box) -> None:
    kept = await run(box, f"{PRELUDE}if not os.fork(): time.sleep(99)\nprint('over')", timeout_s=10)

    assert kept.stdout == b"over\n"
    assert kept.report.wall_s < 5


async def test_making_its_output_a_pipe_that_nobody_reads(box: Box) -> None:
    kept = await run(
        box, f"{PRELUDE}reading, writing = os.pipe()\nos.dup2(writing, 1)\nos.write(1, bytes(1 << 20))", timeout_s=0.5
    )

    assert kept.report.reason is Reason.TIMEOUT
