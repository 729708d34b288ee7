"""What ends a run against its will, and that nothing of it is left."""

import asyncio
import time

import pytest

from tests.contract.sandbox.backends.orders import read, run, shell
from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.types.orders import Order, Reason

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOREVER = "while True: i = 0"
DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n" + FOREVER
STUBBORN = (
    "import time\nwhile True:\n    try:\n        while True: time.sleep(0.001)\n    except KeyboardInterrupt: pass"
)
STOPPED = "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"
BIG = "x = []\nwhile True: x.append(bytearray(1 << 20))"
LOUD = "import os\nwhile True: os.write(1, b'x' * 65536)"


async def test_a_run_that_takes_too_long_ends_and_its_variables_are_kept(box: Box) -> None:
    kept = await run(box, f"x = 1\nprint('begun')\n{FOREVER}", timeout_s=0.3)

    assert kept.report.reason is Reason.TIMEOUT
    assert kept.stdout == b"begun\n"
    assert kept.report.exit_code == 1
    assert not kept.report.was_reset
    assert 0.3 <= kept.report.wall_s < 5
    assert (await run(box, "print(x)")).stdout == b"1\n"


@pytest.mark.parametrize("code", [DEAF, STUBBORN, STOPPED])
async def test_one_that_does_not_listen_is_killed(box: Box, code: str) -> None:
    await run(box, "x = 1")

    kept = await run(box, code, timeout_s=0.3)

    assert (kept.report.reason, kept.report.signal, kept.report.exit_code) == (Reason.TIMEOUT, "SIGKILL", None)
    assert kept.report.was_reset
    assert kept.report.variables == 0
    assert b"NameError" in (await run(box, "print(x)")).stderr


async def test_one_that_sleeps_in_a_child_ends_in_time(box: Box) -> None:
    kept = await run(box, "import subprocess\nsubprocess.run(['sleep', '100'])", timeout_s=0.3)

    assert kept.report.reason is Reason.TIMEOUT
    assert kept.report.wall_s < 5


@pytest.mark.parametrize(
    "code", [FOREVER, f"import threading\nthreading.Thread(target=lambda: exec({FOREVER!r})).start()\n{FOREVER}"]
)
async def test_cpu_seconds_are_counted_over_threads(box: Box, code: str) -> None:
    kept = await run(box, code, cpu_s=0.3)

    assert kept.report.reason is Reason.CPU
    assert kept.report.cpu_s >= 0.3


async def test_cpu_seconds_are_counted_over_processes_whose_parent_does_not_wait(box: Box) -> None:
    code = (
        "import os, signal, time\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        "while True:\n    if os.fork() == 0:\n        end = time.process_time() + 0.1\n"
        "        while time.process_time() < end: pass\n        os._exit(0)\n    time.sleep(0.12)"
    )

    kept = await run(box, code, cpu_s=0.5, timeout_s=15)

    assert kept.report.reason is Reason.CPU


async def test_memory_beyond_the_limit_ends_the_run(box: Box) -> None:
    await run(box, "kept = 1")

    kept = await run(box, BIG, memory_bytes=128 << 20)

    assert kept.report.reason is Reason.MEMORY
    assert kept.report.was_reset
    assert kept.report.peak_memory_bytes > 96 << 20
    assert (await run(box, "print(1)")).stdout == b"1\n"


async def test_memory_is_counted_over_processes(box: Box) -> None:
    code = (
        "import os, time\nfor _ in range(4):\n    if os.fork() == 0:\n        x = bytearray(48 << 20)\n"
        "        time.sleep(30)\ntime.sleep(30)"
    )

    kept = await run(box, code, memory_bytes=128 << 20)

    assert kept.report.reason is Reason.MEMORY


async def test_memory_that_forked_processes_share_counts_once(box: Box) -> None:
    code = (
        "import os, time\nx = b'x' * (64 << 20)\npids = []\nfor _ in range(4):\n    pids.append(os.fork())\n"
        "    if not pids[-1]:\n        time.sleep(0.3)\n        os._exit(0)\n"
        "for pid in pids: os.waitpid(pid, 0)\nprint('whole')"
    )

    kept = await run(box, code, memory_bytes=192 << 20)

    assert (kept.stdout, kept.report.reason) == (b"whole\n", None)


async def test_memory_of_a_program_is_limited_too(box: Box) -> None:
    kept = await shell(box, f"exec python3 -c '{BIG}'", memory_bytes=128 << 20)

    assert (kept.report.reason, kept.report.signal) == (Reason.MEMORY, "SIGKILL")
    assert not kept.report.was_reset


async def test_output_beyond_the_log_ends_the_run_and_the_log_is_kept(box: Box) -> None:
    kept = await run(box, LOUD, output_bytes=1000, log_bytes=1 << 20)

    assert kept.report.reason is Reason.OUTPUT
    assert kept.report.stdout.total_bytes > 1 << 20
    assert len(kept.stdout) == kept.report.stdout.kept_bytes == 1000
    assert await read(box, "stdout", "spool") == b"x" * (1 << 20)


async def test_output_up_to_the_log_is_no_reason_to_end(box: Box) -> None:
    kept = await run(box, "print('x' * (1 << 20), end='')", log_bytes=1 << 20)

    assert (kept.report.reason, kept.report.stdout.total_bytes) == (None, 1 << 20)


async def test_output_of_other_processes_beyond_the_log_ends_the_run(box: Box) -> None:
    kept = await shell(box, "yes >&2", log_bytes=1 << 20)

    assert (kept.report.reason, kept.report.signal) == (Reason.OUTPUT, "SIGKILL")
    assert len(await read(box, "stderr", "spool")) == 1 << 20


async def test_a_flood_of_streamed_output_is_bounded_by_the_log(box: Box) -> None:
    came = 0

    def count(_stream: str, piece: bytes) -> None:
        nonlocal came
        came += len(piece)

    kept = await box.run(Order(code=LOUD, stream=True, log_bytes=4 << 20, timeout_s=20), b"", count)

    assert kept.report.reason is Reason.OUTPUT
    assert 4 << 20 <= came <= 5 << 20


async def test_a_box_outlives_a_flood_that_is_read_slowly(box: Box) -> None:
    """Its runner holds the code back, and the run is over while the last of it still waits to be read."""
    order = Order(code=LOUD, stream=True, log_bytes=4 << 20, timeout_s=20)

    kept = await box.run(order, b"", lambda _stream, _piece: time.sleep(0.002))

    assert kept.report.reason is Reason.OUTPUT
    assert (await run(box, "print(1)")).stdout == b"1\n"


@pytest.mark.parametrize(
    "code",
    [
        "import subprocess\nsubprocess.Popen(['sleep', '1000'])",
        "import subprocess\nsubprocess.Popen(['sleep', '1000'], start_new_session=True)",
        "import subprocess\nsubprocess.Popen('trap \"\" INT TERM HUP; sleep 1000 & sleep 1000', shell=True)",
        (
            "import os, time\nif os.fork() == 0:\n    os.setsid()\n"
            "    if os.fork() == 0:\n        time.sleep(1000)\n    os._exit(0)"
        ),
        (
            "import os, time\nif os.fork() == 0:\n    while True:\n"
            "        if os.fork(): os._exit(0)\n        time.sleep(0.001)"
        ),
    ],
)
async def test_no_process_outlives_its_run(box: Box, code: str) -> None:
    kept = await run(box, code)

    assert kept.report.is_success
    assert kept.report.wall_s < 10
    assert (await box.usage()).processes == 1


async def test_what_a_program_leaves_in_the_background_is_gone_with_it(box: Box) -> None:
    kept = await shell(
        box, "(while true; do echo late > late.txt; sleep 0.01; done) &\nnohup sleep 1000 & disown\necho over"
    )

    assert kept.stdout == b"over\n"
    assert (await box.usage()).processes == 1


async def test_a_thread_that_is_left_stands_still_between_runs(box: Box) -> None:
    code = (
        "import threading\nticks = 0\ndef count():\n    global ticks\n"
        "    while True: ticks += 1\nthreading.Thread(target=count, daemon=True).start()"
    )
    await run(box, code)

    before_s = (await box.usage()).cpu_s
    await asyncio.sleep(0.3)

    assert (await box.usage()).cpu_s - before_s < 0.1
    assert (await run(box, "before = ticks\nimport time\ntime.sleep(0.1)\nprint(ticks > before)")).stdout == b"True\n"


async def test_what_a_thread_prints_after_its_run_is_in_no_later_output(box: Box) -> None:
    await run(
        box,
        (
            "import threading\ndef say():\n    while True: print('late')\n"
            "threading.Thread(target=say, daemon=True).start()"
        ),
    )

    kept = await shell(box, "echo mine; sleep 0.1")

    assert kept.stdout == b"mine\n"


async def test_interrupt_ends_the_run_and_keeps_the_variables(box: Box) -> None:
    running = asyncio.ensure_future(run(box, f"x = 5\nprint('begun', flush=True)\n{FOREVER}"))
    await asyncio.sleep(0.2)
    await box.interrupt()
    kept = await running

    assert (kept.report.reason, kept.report.exit_code) == (Reason.INTERRUPTED, 1)
    assert kept.stderr.endswith(b"KeyboardInterrupt\n")
    assert not kept.report.was_reset
    assert (await run(box, "print(x)")).stdout == b"5\n"


async def test_an_interrupt_is_heard_however_early_it_comes(box: Box) -> None:
    for _ in range(20):
        running = asyncio.ensure_future(run(box, FOREVER, timeout_s=10))
        await asyncio.sleep(0)
        await box.interrupt()
        kept = await running
        assert (kept.report.reason, kept.report.was_reset) == (Reason.INTERRUPTED, False)
        assert kept.report.wall_s < 5


async def test_an_interrupt_that_nothing_runs_for_is_lost(box: Box) -> None:
    await box.interrupt()

    assert (await run(box, "print(1)")).stdout == b"1\n"


async def test_code_that_catches_an_interrupt_and_ends_well_was_not_ended(box: Box) -> None:
    code = "import time\ntry:\n    time.sleep(100)\nexcept KeyboardInterrupt:\n    print('caught')"
    running = asyncio.ensure_future(run(box, code))
    await asyncio.sleep(0.2)
    await box.interrupt()
    kept = await running

    assert (kept.stdout, kept.report.reason, kept.report.exit_code) == (b"caught\n", None, 0)


async def test_interrupt_reaches_a_program_and_its_children(box: Box) -> None:
    running = asyncio.ensure_future(shell(box, "sleep 100; echo over"))
    await asyncio.sleep(0.2)
    await box.interrupt()
    kept = await running

    assert (kept.report.reason, kept.stdout) == (Reason.INTERRUPTED, b"")
    assert kept.report.wall_s < 10


async def test_a_run_that_is_cancelled_is_killed_and_the_next_has_a_new_interpreter(box: Box) -> None:
    await run(box, "x = 1")
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await run(box, f"import subprocess\nsubprocess.Popen(['sleep', '1000'])\n{STUBBORN}")

    kept = await run(box, "print('x' in globals())")

    assert kept.stdout == b"False\n"
    assert (await box.usage()).processes == 1
    assert time.monotonic() - began < 10
