"""Attacks on process 1 of the box, which holds the clocks, and on what it measures."""

import asyncio

import pytest

from tests.chaos.sandbox.attacks.attempts import PRELUDE, is_well, said
from tests.contract.sandbox.backends.local.grounds import Grounds
from tests.contract.sandbox.backends.orders import run, shell
from trainyard.core import errors
from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.types.orders import Reason

pytestmark = pytest.mark.asyncio(loop_scope="session")

HEADLESS = """
pid = os.fork()
if pid == 0:
    threading.Thread(target=work, daemon=True).start()
    libc.syscall(60 if os.uname().machine == 'x86_64' else 93, 0)  # exit: of this thread alone
"""
"""A process whose first thread has ended; /proc/PID/stat calls it a zombie without memory."""


@pytest.mark.parametrize("limit", ["NOFILE", "NPROC", "FSIZE", "AS", "DATA", "CPU", "STACK", "SIGPENDING"])
async def test_lowering_a_limit_of_process_1(box: Box, limit: str) -> None:
    code = f"print(tried(resource.prlimit, 1, resource.RLIMIT_{limit}, (1, 1)))"

    assert await said(box, code) == "EPERM"


async def test_letting_process_1_wait_for_a_processor(box: Box) -> None:
    code = """
print(*[tried(action, *arguments) for action, *arguments in (
    (os.sched_setscheduler, 1, os.SCHED_IDLE, os.sched_param(0)), (os.sched_setparam, 1, os.sched_param(0)),
    (os.sched_setaffinity, 1, {0}), (os.setpriority, os.PRIO_PROCESS, 1, 19), (os.setpriority, os.PRIO_USER, 0, 19),
)])
"""
    assert set((await said(box, code)).split()) == {"EPERM"}


@pytest.mark.parametrize("name", ["VmHWM: zz", "SigIgn: ff", "VmHWM: 99999", ") Z 1 1", "a\nVmHWM: 1", "\udc80\udcff"])
async def test_giving_a_process_a_name_that_reads_like_a_measurement(box: Box, name: str) -> None:
    code = f"{PRELUDE}libc.prctl(15, {name!r}.encode('utf-8', 'surrogateescape'), 0, 0, 0)\nx = b'x' * (32 << 20)"

    kept = await run(box, code)

    assert kept.report.is_success
    assert 32 << 20 <= kept.report.peak_memory_bytes < 90 << 20
    assert (await run(box, "while True: pass", timeout_s=0.3)).report.reason is Reason.TIMEOUT
    await run(box, f"{PRELUDE}libc.prctl(15, b'python', 0, 0, 0)")


async def test_hiding_memory_behind_a_thread_that_has_ended(box: Box) -> None:
    bomb = f"def work():\n    x = []\n    while True: x.append(bytearray(b'x' * (1 << 20)))\n{HEADLESS}time.sleep(15)"

    kept = await run(box, PRELUDE + bomb, memory_bytes=128 << 20)

    assert kept.report.reason is Reason.MEMORY


async def test_outliving_the_run_behind_a_thread_that_has_ended(box: Box) -> None:
    code = (
        f"def work():\n    while True: open('/tmp/late', 'a').write('x'); time.sleep(0.001)\n{HEADLESS}time.sleep(0.2)"
    )
    assert (await run(box, PRELUDE + code)).report.is_success

    sizes = await said(
        box, "about = [os.stat('/tmp/late').st_size, time.sleep(0.1), os.stat('/tmp/late').st_size]\nprint(about)"
    )

    before, _, after = sizes.strip("[]").split(", ")
    assert before == after
    assert (await box.usage()).processes == 1


async def test_flooding_process_1_with_ends_of_children(box: Box) -> None:
    code = "end = time.monotonic() + 1\nwhile time.monotonic() < end: os.kill(1, signal.SIGCHLD)"

    await said(box, code)

    kept = await run(box, f"{PRELUDE}while True: os.kill(1, signal.SIGCHLD)", timeout_s=0.5)
    assert kept.report.reason is Reason.TIMEOUT
    assert kept.report.wall_s < 10


@pytest.mark.parametrize("number", [0, 9, 15, 19, 31, 34, 64])
async def test_having_the_kernel_signal_process_1(box: Box, number: int) -> None:
    code = f"""
ours, theirs = socket.socketpair()
for option, value in ((fcntl.F_SETOWN, 1), (10, {number}), (fcntl.F_SETFL, os.O_ASYNC)):
    tried(fcntl.fcntl, ours, option, value)
theirs.send(b'x')
print('sent')
"""
    assert await said(box, code) == "sent"


async def test_signalling_groups_and_everybody(box: Box) -> None:
    code = (
        "signal.signal(15, signal.SIG_IGN)\nfor to in (0, -1, 1): tried(os.kill, to, 15)\nprint(tried(os.killpg, 1, 9))"
    )

    assert await said(box, code) in ("EPERM", "ESRCH")


async def test_stopping_everything_in_the_box(box: Box) -> None:
    kept = await run(box, f"{PRELUDE}os.fork()\nos.kill(-1, signal.SIGSTOP)\nos.kill(0, signal.SIGSTOP)", timeout_s=0.5)

    assert kept.report.reason is Reason.TIMEOUT
    assert (await box.usage()).processes == 1


async def test_queueing_signals_until_there_is_no_room(box: Box) -> None:
    code = """
signal.pthread_sigmask(signal.SIG_BLOCK, {40})
count = 0
while libc.sigqueue(os.getpid(), 40, 0) == 0: count += 1
print(0 < count <= 1024)
"""
    assert await said(box, code) == "True"


async def test_becoming_the_parent_of_what_is_left(box: Box) -> None:
    code = """
libc.prctl(36, 1, 0, 0, 0)
for _ in range(5):
    if not os.fork():
        os.setsid()
        if os.fork(): os._exit(0)
        time.sleep(99)
"""

    assert (await run(box, PRELUDE + code)).report.is_success
    assert (await box.usage()).processes == 1


@pytest.mark.parametrize("shield", ["os.setsid()", "libc.prctl(4, 0, 0, 0, 0)", "libc.vfork()", "os.setpgid(0, 0)"])
async def test_burning_processors_in_grandchildren_that_hide(box: Box, shield: str) -> None:
    code = f"""
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(4):
    if not os.fork():
        for number in range(1, 32): tried(signal.signal, number, signal.SIG_IGN)
        {shield}
        while True: pass
time.sleep(99)
"""
    kept = await run(box, PRELUDE + code, cpu_s=0.5, timeout_s=20)

    assert kept.report.reason in (Reason.CPU, Reason.TIMEOUT)
    assert kept.report.wall_s < 15
    assert (await box.usage()).processes == 1


async def test_beginning_a_daemon_from_a_shell(box: Box) -> None:
    await shell(box, "for i in 1 2 3; do setsid nohup sleep 1000 >/dev/null 2>&1 </dev/null & done; disown -a")

    assert (await box.usage()).processes == 1


async def test_ending_the_box_while_it_is_asked(ground: Grounds) -> None:
    box = await ground.backend.take("lean", "attacker")
    asked = [asyncio.ensure_future(run(box, "import time; time.sleep(5)")) for _ in range(3)]
    await asyncio.sleep(0.1)
    await box.close()

    answers = await asyncio.gather(*asked, return_exceptions=True)

    assert all(isinstance(answer, errors.Unavailable) for answer in answers)
    other = await ground.backend.take("lean", "attacker")
    await is_well(other)
    await other.close()
