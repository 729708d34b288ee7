"""What `trainyard exec` shows of an answer; the rest is run against a real server in tests/integration/cli."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from trainyard.cli import edge

DONE: dict[str, object] = {
    "session_id": "s" * 21, "error": None, "exit_code": 0, "signal": None, "reason": None, "files": [], "logs": [],
    "has_state": False, "lost": [], "artifact_delivery": None,
}  # fmt: skip


class Canned(BaseHTTPRequestHandler):
    """Answers every run with the results that its code names, as the server streams them."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        done = DONE | {"results": json.loads(asked["code"])}
        content = f"event: done\ndata: {json.dumps(done)}\n\n".encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Canned) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("results", "shown"),
    [
        ([{"output_type": "execute_result", "data": {"text/plain": "42"}}], "42\n"),
        ([{"output_type": "display_data", "data": {"text/plain": "a figure"}}], ""),
        ([{"output_type": "execute_result", "data": {"text/markdown": "*42*"}}], "*42*\n"),
        ([{"output_type": "execute_result", "data": {"image/png": "iVBORw0KGgo="}}], ""),
        ([{"output_type": "execute_result", "data": {}}], ""),
    ],
)
def test_the_value_is_shown_in_the_form_that_it_has(
    url: str, results: list[object], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert edge.run(["exec", "--code", json.dumps(results), "--url", url, "--key", "sk-of-the-tests"]) == 0
    assert capsys.readouterr().out == shown
