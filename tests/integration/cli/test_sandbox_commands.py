"""`trainyard exec` and `trainyard sandbox` against a real server: exit codes, files, Ctrl-C."""

import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.services.require import missing
from trainyard.cli import edge
from trainyard.testing.plugin import LiveServer

TRAINYARD = (sys.executable, "-m", "trainyard")


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def environment(live_server: LiveServer) -> dict[str, str]:
    headers = {"X-API-Key": live_server.key}
    if httpx.get(f"{live_server.url}/languages", headers=headers).status_code == httpx.codes.NOT_FOUND:
        missing("a machine that isolates", "see `trainyard doctor`")
    return {**os.environ, "TRAINYARD_URL": live_server.url, "TRAINYARD_API_KEY": live_server.key}


@pytest.fixture
def trainyard(
    environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command in this process, in a directory of its own."""
    monkeypatch.chdir(tmp_path)
    for name in ("TRAINYARD_URL", "TRAINYARD_API_KEY"):
        monkeypatch.setenv(name, environment[name])

    def run(*arguments: str, piped: str = "") -> Done:
        before, sys.stdin = sys.stdin, io.StringIO(piped)
        try:
            code = edge.run(arguments)
        finally:
            sys.stdin = before
        return Done(code, *capsys.readouterr())

    return run


def session_of(ended: Done) -> str:
    """The session that a run has told of on standard error."""
    line = next(line for line in ended.stderr.splitlines() if line.startswith("session "))
    return line.removeprefix("session ")


def test_code_comes_from_an_option_a_file_or_standard_input(trainyard: Run, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import sys; print('file', sys.argv[1:])")
    assert trainyard("exec", "-c", "print('option')").stdout == "option\n"
    assert trainyard("exec", "a.py", "x", "y z").stdout == "file ['x', 'y z']\n"
    assert trainyard("exec", piped="print('piped')").stdout == "piped\n"
    assert trainyard("exec", "-", "a", piped="import sys; print(sys.argv[1:])").stdout == "['a']\n"
    assert trainyard("exec", "-c", "import sys; print(sys.argv[1:])", "a", "b").stdout == "['a', 'b']\n"


def test_the_language_is_that_of_the_extension_or_of_the_option(trainyard: Run, tmp_path: Path) -> None:
    (tmp_path / "a.sh").write_text("echo $((6 * 7))")
    (tmp_path / "code.txt").write_text("echo from $0")
    assert trainyard("exec", "a.sh").stdout == "42\n"
    assert trainyard("exec", "code.txt", "--lang", "bash").returncode == 0
    refused = trainyard("exec", "code.txt")
    assert (refused.returncode, "choose one of: py" in refused.stderr) == (2, True)


def test_streams_stay_apart_and_the_last_value_is_shown(trainyard: Run) -> None:
    done = trainyard("exec", "-c", "import sys; print('out'); print('err', file=sys.stderr); 6 * 7")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n42\n", f"err\nsession {session_of(done)}\n")
    quiet = trainyard("exec", "-c", "print('nothing to go on with')")
    assert (quiet.stdout, quiet.stderr) == ("nothing to go on with\n", "")


def test_a_session_goes_on(trainyard: Run) -> None:
    first = trainyard("exec", "-c", "x = 41")
    assert first.stdout == ""
    second = trainyard("exec", "--session", session_of(first), "-c", "x + 1")
    assert (second.stdout, session_of(second)) == ("42\n", session_of(first))
    trainyard("exec", "--entity", "of-the-tests", "-c", "y = 7")
    assert trainyard("exec", "--entity", "of-the-tests", "-c", "y").stdout == "7\n"


def test_what_code_is_given_and_what_it_leaves(trainyard: Run, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("1,2\n")
    (tmp_path / "question").write_text("from a file")
    code = (
        "import os, sys; os.mkdir('d'); open('d/ü.txt', 'w').write(open('in.csv').read()); "
        "print(sys.stdin.read(), os.environ['A'])"
    )
    done = trainyard(
        "exec", "-c", code, "--upload", "in.csv", "--stdin", "question", "--env", "A=b=c", "--outputs", "made"
    )
    assert (done.returncode, done.stdout) == (0, "from a file b=c\n")
    assert (tmp_path / "made" / "d" / "ü.txt").read_text() == "1,2\n"
    assert f"wrote {Path('made', 'd', 'ü.txt')}" in done.stderr.splitlines()
    assert not (tmp_path / "made" / "in.csv").exists()
    assert trainyard("exec", "-c", "print(input())", "--stdin", "-", piped="typed").stdout == "typed\n"


def test_what_is_not_kept_and_what_is_lost_is_told(trainyard: Run) -> None:
    code = "import os; os.symlink('/etc/passwd', 'link'); [os.symlink('/', f'l{n}') for n in range(30)]"
    told = trainyard("exec", "-c", f"{code}; x = 1; kept = (one for one in 'abc')").stderr.splitlines()
    assert "not kept: l0: symbolic link" in told
    assert "and 11 more such lines; --json has all of them" in told
    session = next(line.removeprefix("session ") for line in told if line.startswith("session "))
    trainyard("sandbox", "kill", session)
    again = trainyard("exec", "--session", session, "-c", "print(x)")
    assert again.stdout == "1\n"
    assert [line[: len("lost kept: ")] for line in again.stderr.splitlines() if line.startswith("lost")] == [
        "lost kept: "
    ]


@pytest.mark.parametrize(
    ("code", "more", "expected"),
    [
        ("raise SystemExit(3)", (), 3),
        ("1/0", (), 1),
        ("import os; os.kill(os.getpid(), 11)", (), 128 + 11),
        ("while True: pass", ("--timeout-s", "1"), 124),
    ],
)
def test_the_exit_code_is_that_of_the_code(trainyard: Run, code: str, more: Sequence[str], expected: int) -> None:
    assert trainyard("exec", "-c", code, *more).returncode == expected


def test_json_is_the_whole_answer_and_nothing_else(trainyard: Run) -> None:
    done = trainyard("exec", "--json", "-c", "import sys; print('out'); print('err', file=sys.stderr); sys.exit(5)")
    told = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (5, "")
    assert (told["stdout"], told["exit_code"], "event" in told) == ("out\n", 5, False)


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["exec", "absent.py"], 9, "absent.py"),
        (["exec", "-c", "1", "--env", "A"], 2, "--env takes NAME=VALUE, not 'A'"),
        (["exec", "--stdin", "-"], 2, "standard input cannot be the code and its input"),
        (["exec", "-c", "1", "--session", "S" * 21], 4, "There is no such session"),
        (["exec", "-c", "1", "--upload", "a/x", "--upload", "b/x"], 2, "the same name"),
        (["exec", "-c", "1", "--timeout-s", "0"], 2, "0.001"),
        (["sandbox", "kill", "S" * 21], 4, "There is no such session"),
    ],
)
def test_what_cannot_be_done_is_one_line(trainyard: Run, arguments: list[str], code: int, says: str) -> None:
    refused = trainyard(*arguments)
    assert refused.returncode == code, refused.stderr
    assert says in refused.stderr
    assert (refused.stdout, refused.stderr.count("\n")) == ("", 1)


ENDLESS = """\
import time
x = 1
print('begun', flush=True)
try:
    while True: time.sleep(0.01)
finally:
    print('interrupted')
"""


def begun(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Start code that does not end by itself, and wait until it runs."""
    running = subprocess.Popen(
        [*TRAINYARD, "exec", *arguments, "-c", ENDLESS],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout is not None
    assert running.stdout.readline() == "begun\n"
    return running


def test_ctrl_c_interrupts_the_code_and_its_variables_stay(environment: dict[str, str], trainyard: Run) -> None:
    running = begun(environment)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (130, "interrupted\n"), err
    assert "KeyboardInterrupt" in err
    session = next(line.removeprefix("session ") for line in err.splitlines() if line.startswith("session "))
    assert trainyard("exec", "--session", session, "-c", "x").stdout == "1\n"


def test_a_second_ctrl_c_leaves_code_that_does_not_listen(environment: dict[str, str]) -> None:
    deaf = ENDLESS.replace("x = 1", "import signal; signal.signal(signal.SIGINT, lambda *_: print('no', flush=True))")
    running = subprocess.Popen(
        [*TRAINYARD, "exec", "--timeout-s", "60", "-c", deaf],
        env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout is not None
    assert running.stdout.readline() == "begun\n"
    running.send_signal(signal.SIGINT)
    assert running.stdout.readline() == "no\n"
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=30)
    assert (running.returncode, err) == (130, "")


def test_sessions_are_listed_ended_and_cleared_away(environment: dict[str, str], trainyard: Run) -> None:
    session = session_of(trainyard("exec", "-c", "x = 1"))
    shown = trainyard("sandbox", "ps")
    line = next(line.split("\t") for line in shown.stdout.splitlines() if line.startswith(session))
    assert line[3].endswith("MiB")
    assert "kept ready: " in shown.stderr
    listed = json.loads(trainyard("sandbox", "ps", "--json").stdout)
    assert next(one["is_live"] for one in listed["sessions"] if one["session_id"] == session)
    assert trainyard("sandbox", "kill", session).stdout == f"{session} is ended\n"
    assert trainyard("sandbox", "kill", session).stdout == f"{session}: nothing ran\n"
    again = json.loads(trainyard("sandbox", "kill", session, "--json").stdout)
    assert again == {"session_id": session, "killed": False}
    assert trainyard("exec", "-s", session, "-c", "x").stdout == "1\n"  # from its checkpoint
    assert trainyard("sandbox", "gc").stdout.startswith("removed: ")
    assert set(json.loads(trainyard("sandbox", "gc", "--stray-s", "3600", "--json").stdout)) == {"sessions", "contents"}


def test_a_run_that_is_killed_says_so(environment: dict[str, str], trainyard: Run) -> None:
    running = begun(environment, "--entity", "killed-by-the-tests")
    listed = json.loads(trainyard("sandbox", "ps", "--json").stdout)["sessions"]
    session = next(one["session_id"] for one in listed if one["entity_id"] == "killed-by-the-tests")
    assert trainyard("sandbox", "kill", session).stdout == f"{session} is ended\n"
    running.communicate(timeout=30)
    assert running.returncode == 128 + signal.SIGKILL


def test_on_a_terminal_code_is_asked_for_and_output_is_as_the_code_wrote_it(
    environment: dict[str, str], tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0), os.fdopen(theirs, "wb", buffering=0):
        asked = subprocess.run(
            [*TRAINYARD, "exec"], stdin=theirs, capture_output=True, text=True, env=environment, timeout=30
        )
        assert (asked.returncode, asked.stderr) == (
            2, "trainyard: give a text as FILE or --code or on standard input\n"
        )  # fmt: skip
        coloured = subprocess.run(
            [*TRAINYARD, "exec", "-c", r"print('\x1b[31mred\x1b[0m [bold]x[/bold]')"],
            stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, env=environment, timeout=30,
        )  # fmt: skip
        assert coloured.returncode == 0
        assert os.read(ours, 1000) == b"\x1b[31mred\x1b[0m [bold]x[/bold]\r\n"
