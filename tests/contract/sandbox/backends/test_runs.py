"""What a run of Python gives back."""

import pytest

from tests.contract.sandbox.backends.orders import put, run
from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.types.orders import Order

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_it_says_what_was_printed_on_which_stream(box: Box) -> None:
    kept = await run(box, "import sys\nprint('out')\nprint('err', file=sys.stderr)")

    assert (kept.stdout, kept.stderr) == (b"out\n", b"err\n")
    assert kept.report.is_success
    assert (kept.report.exit_code, kept.report.signal, kept.report.reason, kept.report.phase) == (0, None, None, "run")


@pytest.mark.parametrize(
    ("code", "exit_code", "stderr"),
    [
        ("import sys; sys.exit()", 0, b""),
        ("import sys; sys.exit(7)", 7, b""),
        ("import sys; sys.exit(256 + 3)", 3, b""),
        ("import sys; sys.exit('no')", 1, b"no\n"),
        ("raise SystemExit(5)", 5, b""),
        ("exit(4)", 4, b""),
        ("quit()", 0, b""),
    ],
)
async def test_the_exit_code_is_what_python_would_end_with(box: Box, code: str, exit_code: int, stderr: bytes) -> None:
    kept = await run(box, "x = 1")
    kept = await run(box, code)

    assert (kept.report.exit_code, kept.stderr) == (exit_code, stderr)
    assert not kept.report.was_reset
    assert (await run(box, "print(x)")).stdout == b"1\n"


async def test_a_traceback_is_the_one_of_cpython_with_the_lines_of_the_code(box: Box) -> None:
    await run(box, "def broken(x):\n    return 1 / x")
    kept = await run(box, "y = 0\nbroken(y)")

    assert kept.report.exit_code == 1
    assert kept.stderr.decode() == (
        "Traceback (most recent call last):\n"
        '  File "<cell 2>", line 2, in <module>\n'
        "    broken(y)\n"
        '  File "<cell 1>", line 2, in broken\n'
        "    return 1 / x\n"
        "           ~~^~~\n"
        "ZeroDivisionError: division by zero\n"
    )


async def test_code_that_is_no_python_is_told_so_without_a_traceback_of_ours(box: Box) -> None:
    kept = await run(box, "x = (\ny")

    assert kept.report.exit_code == 1
    assert kept.stderr.decode().startswith('  File "<cell 1>", line 1\n    x = (\n        ^\nSyntaxError: ')


@pytest.mark.parametrize(
    "code", ["x = '\\ud800'; print(len(x))", "print('é 🐍 \\x00'.encode() and 1)", "1" * 4000 + ";print(1)"]
)
async def test_any_source_text_is_taken(box: Box, code: str) -> None:
    assert (await run(box, code)).stdout == b"1\n"


@pytest.mark.parametrize("code", ["(" * 100_000, "-" * 1_000_000 + "1", "x = 1\0"])
async def test_a_source_that_breaks_the_compiler_is_an_exception(box: Box, code: str) -> None:
    await run(box, "kept = 1")

    kept = await run(box, code)

    assert kept.report.exit_code == 1
    assert b"Error" in kept.stderr
    assert (await run(box, "print(kept)")).stdout == b"1\n"


async def test_the_last_expression_is_a_result_and_none_is_not(box: Box) -> None:
    kept = await run(box, "x = 20\nx + 22")

    assert [(result.kind, dict(result.data)) for result in kept.report.results] == [
        ("execute_result", {"text/plain": "42"})
    ]
    assert (await run(box, "None")).report.results == []
    assert (await run(box, "x", results=False)).report.results == []


async def test_half_a_surrogate_pair_in_a_result_becomes_text(box: Box) -> None:
    class_code = "class A:\n    def __repr__(self): return 'a\\ud800b'\nA()"

    assert (await run(box, class_code)).report.results[0].data == {"text/plain": "a?b"}


async def test_arguments_input_and_environment_belong_to_one_run(box: Box) -> None:
    code = "import os, sys\nprint(sys.argv[1:], sys.stdin.read(), os.environ.get('COLOUR'))"

    first = await run(box, code, args=("a b", "ü"), stdin=b"in\n", env={"COLOUR": "red"})
    second = await run(box, code)

    assert first.stdout.decode() == "['a b', 'ü'] in\n red\n"
    assert second.stdout.decode() == "[]  None\n"


async def test_the_environment_that_code_has_set_stays_beside_that_of_a_run(box: Box) -> None:
    await run(box, "import os\nos.environ['MINE'] = '1'\nos.environ['COLOUR'] = 'blue'")
    await run(box, "os.environ['COLOUR'] = 'green'", env={"COLOUR": "red"})

    assert (await run(box, "print(os.environ['MINE'], os.environ['COLOUR'])")).stdout == b"1 blue\n"


async def test_input_without_any_is_at_its_end(box: Box) -> None:
    assert b"EOFError" in (await run(box, "input()")).stderr


async def test_a_large_input_that_is_not_read_holds_nothing_up(box: Box) -> None:
    content = b"x" * (8 << 20)

    assert (await run(box, "print(1)", stdin=content)).stdout == b"1\n"
    assert (await run(box, "import sys\nprint(len(sys.stdin.buffer.read()))", stdin=content)).stdout == b"8388608\n"


async def test_every_run_begins_in_the_workspace(box: Box) -> None:
    await run(box, "import os\nhome = os.getcwd()\nos.mkdir('below')\nos.chdir('below')")

    assert (await run(box, "print(os.getcwd() == home)")).stdout == b"True\n"


async def test_a_module_in_the_workspace_can_be_imported(box: Box) -> None:
    await put(box, "shop.py", b"PRICE = 3\n")

    kept = await run(box, "import shop\nprint(shop.PRICE)")

    assert kept.stdout == b"3\n"
    assert [change.path for change in kept.report.changed] == ["shop.py"]


async def test_other_processes_of_the_code_write_to_the_same_streams_and_read_the_same_input(box: Box) -> None:
    code = "import subprocess, sys\nsubprocess.run(['bash', '-c', 'cat; echo err >&2'], check=True)"

    kept = await run(box, code, stdin=b"handed on\n")

    assert (kept.stdout, kept.stderr) == (b"handed on\n", b"err\n")


async def test_a_process_that_the_code_forks_is_no_second_interpreter(box: Box) -> None:
    kept = await run(
        box, "import os\npid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\nprint('parent' if pid else 'child')"
    )

    assert kept.stdout == b"child\nparent\n"
    assert (await run(box, "print('once')")).stdout == b"once\n"


async def test_processes_of_multiprocessing_work(box: Box) -> None:
    code = (
        "import multiprocessing as mp\ndef double(x):\n    return 2 * x\n"
        "with mp.get_context('fork').Pool(2) as pool:\n    print(pool.map(double, [1, 2, 3]))"
    )

    assert (await run(box, code)).stdout == b"[2, 4, 6]\n"


async def test_it_tells_how_long_it_took_and_what_it_used(box: Box) -> None:
    kept = await run(
        box,
        "import time\nx = bytearray(64 << 20)\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass",
    )

    assert 0.2 <= kept.report.wall_s < 20
    assert 0.2 <= kept.report.cpu_s < 5
    assert 64 << 20 <= kept.report.peak_memory_bytes < 1 << 30


async def test_cpu_seconds_of_children_count(box: Box) -> None:
    busy = "import time\nwhile time.process_time() < 0.3: pass"

    kept = await run(box, f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {busy!r}])")

    assert kept.report.cpu_s >= 0.3


async def test_streamed_output_comes_while_the_code_runs_and_is_whole(box: Box) -> None:
    came: list[tuple[str, bytes]] = []
    code = "import sys\nfor i in range(3):\n    print(i)\nprint('e', file=sys.stderr)"

    kept = await box.run(Order(code=code, stream=True), b"", lambda stream, piece: came.append((stream, piece)))

    assert b"".join(piece for stream, piece in came if stream == "stdout") == b"0\n1\n2\n" == kept.stdout
    assert b"".join(piece for stream, piece in came if stream == "stderr") == b"e\n"
