"""The HTTP process when it is started in ways that cannot work."""

import subprocess
import sys
from pathlib import Path

import pytest

from trainyard.core.processes import CONFIG_EXIT, Handover, handover


def given(flags: dict[str, str | int | None]) -> bytes:
    document = Handover(
        flags=flags, config_file=None, listen_fd=0, url="", control_socket="control", socket_directory="sockets"
    )
    return handover.write(document)


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "start the server with: trainyard up"),
        (given({"server.port": "many"}), "server.port"),
        (given({"server.prot": 1}), "did you mean 'server.port'?"),
    ],
)
def test_a_start_that_cannot_work_is_one_line_and_not_tried_again(tmp_path: Path, raw: bytes, why: str) -> None:
    argv = [sys.executable, "-m", "trainyard.app"]
    done = subprocess.run(argv, input=raw, capture_output=True, check=False, timeout=60, cwd=tmp_path)
    assert done.returncode == CONFIG_EXIT
    (line,) = done.stderr.decode().splitlines()
    assert why in line
