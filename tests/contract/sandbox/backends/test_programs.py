"""Programs of other languages: steps in a fresh directory."""

from typing import Any

import pytest

from tests.contract.sandbox.backends.orders import run, shell
from trainyard.sandbox.backends.base import Box
from trainyard.sandbox.types.orders import Program, Reason, Step

pytestmark = pytest.mark.asyncio(loop_scope="session")


def _program(*steps: tuple[str, ...], file: str = "main.sh", env: dict[str, str] | None = None) -> Program:
    *compiling, running = steps
    made: list[Any] = [Step(phase="compile", argv=argv) for argv in compiling]
    return Program(file=file, steps=(*made, Step(phase="run", argv=running)), env=env or {})


async def test_a_script_gets_arguments_input_environment_and_the_workspace(box: Box) -> None:
    await run(box, "open('here', 'w').write('x')")

    kept = await shell(
        box, 'echo "$@" $COLOUR; cat; ls; echo err >&2; exit 3', args=("a b", "c"), stdin=b"in\n", env={"COLOUR": "red"}
    )

    assert kept.stdout == b"a b c red\nin\nhere\n"
    assert kept.stderr == b"err\n"
    assert (kept.report.exit_code, kept.report.phase) == (3, "run")


async def test_steps_follow_each_other_while_they_work(box: Box) -> None:
    program = _program(("cp", "{file}", "{dir}/built"), ("bash", "{dir}/built", "{args}", "last"))

    kept = await run(box, "echo built $@", program=program, args=("1", "2"))

    assert (kept.stdout, kept.report.phase) == (b"built 1 2 last\n", "run")
    assert kept.report.changed == []


async def test_a_step_that_fails_is_the_last(box: Box) -> None:
    program = _program(("bash", "-c", "cat; echo wrong >&2; exit 2"), ("echo", "never"))

    kept = await run(box, "", program=program, stdin=b"for the run only")

    assert (kept.stdout, kept.stderr) == (b"", b"wrong\n")
    assert (kept.report.exit_code, kept.report.phase) == (2, "compile")


async def test_a_program_that_is_not_there_is_said_to_be_missing(box: Box) -> None:
    kept = await run(box, "", program=_program(("no-such-compiler", "{file}")))

    assert (kept.report.exit_code, kept.stderr) == (127, b"no-such-compiler: No such file or directory\n")


async def test_one_that_is_no_program_is_said_to_be_none(box: Box) -> None:
    kept = await run(box, "", program=_program(("{file}",)))

    assert (kept.report.exit_code, kept.stderr.endswith(b": Permission denied\n")) == (126, True)


@pytest.mark.parametrize(
    ("code", "exit_code", "signal"),
    [
        ("kill -SEGV $$", None, "SIGSEGV"),
        ("kill -9 $$", None, "SIGKILL"),
        ("kill -40 $$", None, "SIG40"),  # of those without a name
        ("exit 255", 255, None),
        ("true", 0, None),
    ],
)
async def test_how_it_ended_is_told(box: Box, code: str, exit_code: int | None, signal: str | None) -> None:
    report = (await shell(box, code)).report

    assert (report.exit_code, report.signal, report.reason) == (exit_code, signal, None)


async def test_the_time_of_all_steps_together_is_limited(box: Box) -> None:
    program = _program(("sleep", "0.3"), ("sleep", "100"))

    kept = await run(box, "", program=program, timeout_s=0.6)

    assert (kept.report.reason, kept.report.phase, kept.report.signal) == (Reason.TIMEOUT, "run", "SIGKILL")
    assert 0.6 <= kept.report.wall_s < 10


async def test_cpu_seconds_are_limited(box: Box) -> None:
    kept = await shell(box, "while :; do :; done", cpu_s=0.3)

    assert kept.report.reason is Reason.CPU


async def test_the_directory_is_fresh_every_time(box: Box) -> None:
    code = 'cd "$(dirname "$0")"; ls -A; mkdir -p a/b; ln -s / a/out; chmod 0 a/b; touch left'

    first, second = await shell(box, code), await shell(box, code)

    assert first.stdout == second.stdout == b"main.sh\n"


async def test_its_own_environment_is_beside_that_of_every_run(box: Box) -> None:
    kept = await run(box, "", program=_program(("bash", "-c", "echo $MINE $LANG"), env={"MINE": "1"}))

    assert kept.stdout == b"1 C.UTF-8\n"


async def test_bash_and_python_share_the_workspace(box: Box) -> None:
    kept = await shell(box, "python3 - <<'END'\nopen('made', 'w').write('by python')\nEND\ncat made")

    assert kept.stdout == b"by python"
    assert [change.path for change in kept.report.changed] == ["made"]
