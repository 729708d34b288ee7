"""`trainyard chat` on a terminal: a conversation with a memory."""

import os
import pty
import subprocess
import sys

import pytest

from trainyard.testing.plugin import LiveServer


def read_until(terminal: int, mark: str) -> str:
    text = ""
    while mark not in text:
        text += os.read(terminal, 4096).decode("utf-8", "replace")
    return text


@pytest.mark.parametrize("ending", ["\n", "\x04"])  # an empty line, Ctrl-D
def test_a_conversation_goes_on_until_an_empty_line_or_ctrl_d(live_server: LiveServer, ending: str) -> None:
    ours, theirs = pty.openpty()
    address = {"TRAINYARD_URL": live_server.url, "TRAINYARD_API_KEY": live_server.key}
    talk = subprocess.Popen(
        [sys.executable, "-m", "trainyard", "chat", "--max-tokens", "4", "--temperature", "0", "--system", "Be brief."],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **address},
    )  # fmt: skip
    os.close(theirs)
    try:
        assert "trainyard/pocket · an empty line or Ctrl-D ends" in read_until(ours, "> ")
        for question in ("Hello!", "And again?"):
            os.write(ours, f"{question}\n".encode())
            assert question in read_until(ours, "> ")
        os.write(ours, ending.encode())
        assert talk.wait(30) == 0
    finally:
        os.close(ours)
        talk.kill()
        talk.wait()
