"""`trainyard mock` as a process of its own."""

import json
import signal
import subprocess
import sys

import httpx


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
