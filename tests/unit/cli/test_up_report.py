"""What `trainyard up` prints of its children."""

import subprocess
import sys
from pathlib import Path

import pytest

from trainyard.cli.up_report import Report
from trainyard.core.processes import ChildState, ChildStatus


def status(state: ChildState, restarts: int = 0) -> ChildStatus:
    return ChildStatus(name="http", state=state, pid=7, restarts=restarts, essential=True, reason="exit status 1")


def test_an_operator_sees_the_start_the_crash_and_the_new_start(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(as_json=False)
    for state, restarts in [("starting", 0), ("ready", 0), ("waiting", 0), ("starting", 1), ("ready", 1)]:
        report.child(status(ChildState(state), restarts), Path("http.log"))
    assert capsys.readouterr().out.splitlines() == [
        "http is starting",
        "http is ready (pid 7)",
        "http ended (exit status 1), starting it again; see http.log",
        "http is ready again (pid 7)",
    ]


@pytest.mark.parametrize("call", ["report.draining()", "report.run_file_not_written(OSError('full'))"])
@pytest.mark.parametrize("as_json", [True, False])
def test_nobody_to_print_to_is_no_failure(call: str, as_json: bool) -> None:
    code = f"from trainyard.cli.up_report import Report; report = Report(as_json={as_json}); {call}; {call}"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_start_whose_key_cannot_be_shown_fails() -> None:
    code = (
        "from pathlib import Path; from trainyard.cli.up_report import Report;"
        "Report(as_json=False).started('http://localhost', Path('.'), 'sk-key', [])"
    )
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode != 0
    assert "No space left on device" in done.stderr
