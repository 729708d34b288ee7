"""The routes of the sandbox over sockets: what only shows there."""

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from trainyard.testing.plugin import LiveServer

BIG = 140 << 20
PIECE = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def client(live_server: LiveServer) -> Iterator[httpx.Client]:
    headers = {"X-API-Key": live_server.key}
    with httpx.Client(base_url=live_server.url, timeout=60, headers=headers) as opened:
        if opened.get("/languages").status_code == 404:
            pytest.skip("no sandbox on this machine")
        yield opened


def form(size: int) -> Iterator[bytes]:
    yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="big.bin"\r\n\r\n'
    for _ in range(size // len(PIECE)):
        yield PIECE
    yield b"\r\n--b--\r\n"


def test_a_large_file_goes_in_and_out_as_a_stream(client: httpx.Client) -> None:
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    answer = client.post("/upload", content=form(BIG), headers=headers)
    assert answer.status_code == 200, answer.text
    done = answer.json()
    path = f"/download/{done['session_id']}/{done['files'][0]['fileId']}"
    assert done["files"][0]["size"] == BIG
    with client.stream("GET", path) as download:
        assert download.headers["content-length"] == str(BIG)
        received = sum(len(piece) for piece in download.iter_raw())
    assert received == BIG
    part = client.get(path, headers={"Range": f"bytes={BIG - 256}-"})
    assert (part.status_code, part.content) == (206, PIECE[-256:])
    assert client.delete(f"/sessions/{done['session_id']}").status_code == 204


def test_what_the_code_writes_is_there_while_it_runs(client: httpx.Client) -> None:
    code = "import time\nprint('first', flush=True)\ntime.sleep(1.5)\nprint('second')"
    began_s = time.monotonic()
    seen: dict[str, float] = {}
    with client.stream("POST", "/exec", json={"lang": "py", "code": code, "stream": True}) as answer:
        for line in answer.iter_lines():
            for word in ("first", "second", '"exit_code"'):
                if word in line:
                    seen.setdefault(word, time.monotonic() - began_s)
    assert seen["second"] - seen["first"] > 1
    assert seen['"exit_code"'] >= seen["second"]


def address(live_server: LiveServer) -> tuple[str, int]:
    """Where a plain socket reaches the server."""
    url = httpx.URL(live_server.url)
    if url.scheme != "http":
        pytest.skip("speaks plain HTTP")
    return url.host, url.port or 80


def request_of(live_server: LiveServer, body: dict[str, Any]) -> socket.socket:
    """Send a request on a socket of its own."""
    host, port = address(live_server)
    opened = socket.create_connection((host, port), timeout=30)
    raw = json.dumps(body).encode()
    head = f"POST /exec HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {live_server.key}\r\nContent-Length: {len(raw)}\r\n\r\n"
    opened.sendall(head.encode() + raw)
    return opened


@pytest.mark.parametrize("stream", [False, True])
def test_whoever_leaves_ends_the_run(client: httpx.Client, live_server: LiveServer, stream: bool) -> None:
    session = client.post("/exec", json={"lang": "py", "code": "x = 1"}).json()["session_id"]
    endless = {"lang": "py", "code": "print(1, flush=True)\nwhile True: pass", "session_id": session, "timeout_s": 120}
    leaving = request_of(live_server, {**endless, "stream": stream})
    while not client.get(f"/sessions/{session}").json()["is_live"]:
        time.sleep(0.05)
    time.sleep(0.5)  # lets it run; there is nothing to wait for without a stream
    began_s = time.monotonic()
    leaving.close()
    # a second run of a session waits for the first, which would go on for two minutes
    after = client.post("/exec", json={"lang": "py", "code": "print('here')", "session_id": session})
    assert after.json()["stdout"] == "here\n"
    assert time.monotonic() - began_s < 30


def test_an_upload_that_breaks_off_leaves_nothing(client: httpx.Client, live_server: LiveServer) -> None:
    before = {one["session_id"] for one in client.get("/sessions").json()["sessions"]}
    host, port = address(live_server)
    head = (
        f"POST /upload HTTP/1.1\r\nHost: {host}\r\nX-API-Key: {live_server.key}\r\nContent-Length: 1000000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    with socket.create_connection((host, port), timeout=30) as opened:
        opened.sendall(head.encode() + next(form(0)) + PIECE[:100_000])
    again = client.post("/upload", files={"file": ("after.txt", b"1")})  # the server goes on
    after = {one["session_id"] for one in client.get("/sessions").json()["sessions"]}
    assert after == before | {again.json()["session_id"]}
