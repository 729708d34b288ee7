"""`trainyard chat` on a terminal: a conversation with a memory."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from trainyard.testing.plugin import LiveServer


def read_until(terminal: int, mark: str) -> str:
    text = ""
    while mark not in text:
        text += os.read(terminal, 4096).decode("utf-8", "replace")
    return text


@contextmanager
def talking(server: LiveServer, *options: str) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """A chat whose terminal is ours."""
    ours, theirs = pty.openpty()
    address = {"TRAINYARD_URL": server.url, "TRAINYARD_API_KEY": server.key}
    talk = subprocess.Popen(
        [sys.executable, "-m", "trainyard", "chat", "--max-tokens", "4", *options],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, **address},
    )  # fmt: skip
    os.close(theirs)
    try:
        yield ours, talk
    finally:
        os.close(ours)
        talk.kill()
        talk.wait()


def test_a_refused_question_does_not_end_the_conversation(live_server: LiveServer) -> None:
    with talking(live_server, "--temperature", "9") as (terminal, talk):
        read_until(terminal, "> ")
        os.write(terminal, b"Hello!\n")
        assert "trainyard: [400] temperature" in read_until(terminal, "\n> ")
        os.write(terminal, b"\n")
        assert talk.wait(30) == 0


@pytest.mark.parametrize("ending", ["\n", "\x04"])  # an empty line, Ctrl-D
def test_a_conversation_goes_on_until_an_empty_line_or_ctrl_d(live_server: LiveServer, ending: str) -> None:
    with talking(live_server, "--temperature", "0", "--system", "Be brief.") as (terminal, talk):
        assert "trainyard/pocket · an empty line or Ctrl-D ends" in read_until(terminal, "> ")
        for question in ("Hello!", "And again?"):
            os.write(terminal, f"{question}\n".encode())
            assert question in read_until(terminal, "> ")
        os.write(terminal, ending.encode())
        assert talk.wait(30) == 0
