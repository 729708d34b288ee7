"""What is kept of long, odd and hostile output."""

import pytest

from tests.contract.sandbox.backends.orders import read, run, shell
from trainyard.sandbox.backends.base import Box

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.mark.parametrize(
    ("written", "keep_bytes", "kept", "head_bytes"),
    [
        (b"", 10, b"", 0),
        (b"0123456789", 10, b"0123456789", 5),
        (b"0123456789a", 10, b"012346789a", 5),
        (b"0123456789abcdef", 7, b"012cdef", 3),
    ],
)
async def test_head_and_tail_are_kept(box: Box, written: bytes, keep_bytes: int, kept: bytes, head_bytes: int) -> None:
    answer = await run(box, f"import os\nos.write(1, {written!r})", output_bytes=keep_bytes)

    assert answer.stdout == kept
    about = answer.report.stdout
    assert (about.kept_bytes, about.total_bytes) == (len(kept), len(written))
    assert about.is_cut == (len(written) > keep_bytes)
    assert about.head_bytes == min(head_bytes, len(written))
    assert await read(box, "stdout", "spool") == written


async def test_long_output_in_small_pieces_is_whole_in_the_spool(box: Box) -> None:
    kept = await run(box, "for i in range(100_000): print(i)", output_bytes=100)

    whole = "".join(f"{i}\n" for i in range(100_000)).encode()
    assert kept.stdout == whole[:50] + whole[-50:]
    assert await read(box, "stdout", "spool") == whole
    assert await read(box, "stderr", "spool") == b""


async def test_bytes_that_are_no_text_come_through(box: Box) -> None:
    kept = await run(
        box, "import sys\nsys.stdout.buffer.write(bytes(range(256)))\nprint('\\udcff\\ud800', file=sys.stderr)"
    )

    assert kept.stdout == bytes(range(256))
    assert kept.stderr == b"\\udcff\\ud800\n"


async def test_the_spool_has_the_last_run_only(box: Box) -> None:
    await run(box, "print('x' * 5000)", output_bytes=1024)
    await shell(box, "echo second")

    assert await read(box, "stdout", "spool") == b"second\n"


async def test_what_was_written_before_a_crash_is_kept(box: Box) -> None:
    kept = await run(box, "import os\nprint('line')\nprint('half', end='', flush=True)\nos._exit(9)")

    assert (kept.stdout, kept.report.exit_code, kept.report.was_reset) == (b"line\nhalf", 9, True)


@pytest.mark.parametrize(
    ("code", "signal"),
    [
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("import ctypes\nctypes.string_at(0)", "SIGSEGV"),
        ("import os\nos.abort()", "SIGABRT"),
    ],
)
async def test_a_signal_that_ends_the_interpreter_is_named(box: Box, code: str, signal: str) -> None:
    kept = await run(box, code)

    assert (kept.report.signal, kept.report.exit_code, kept.report.reason) == (signal, None, None)
    assert kept.report.was_reset
