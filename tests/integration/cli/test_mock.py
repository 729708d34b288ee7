"""`trainyard mock` as a process of its own."""

import json
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from trainyard.cli import edge


def test_the_mock_serves_until_it_is_interrupted() -> None:
    arguments = ["mock", "--port", "0", "--json", "--models", "a, b", "--answer-tokens", "3", "--token-ms", "1"]
    with subprocess.Popen(
        [sys.executable, "-m", "trainyard", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            url = json.loads(process.stdout.readline())["url"]
            listed = httpx.get(f"{url}/v1/models").json()
            answer = httpx.post(f"{url}/v1/completions", json={"model": "a", "prompt": "x"}).json()
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(10) in (0, 130)
        assert process.stderr.read() == ""
    assert [model["id"] for model in listed["data"]] == ["a", "b"]
    assert answer["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_an_address_that_cannot_be_had_is_one_line(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert edge.run(["mock", "--host", host, "--port", str(port)]) == 9
    said = capsys.readouterr().err
    assert said.startswith(f"trainyard: the mock cannot listen on {host} port {port} (")
    assert said.count("\n") == 1
