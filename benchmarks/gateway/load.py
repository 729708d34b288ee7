"""The load: kept connections, each with one request under way, for some seconds; wrk where it is installed.

`python -m benchmarks.gateway.load FILE` is the load without wrk; FILE holds a `Load` as JSON.
"""

import asyncio
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

import uvloop

_LUA = """\
wrk.method = "POST"
wrk.headers["Authorization"] = {authorization}
wrk.headers["Content-Type"] = "application/json"
wrk.body = {body}
"""


@dataclass(frozen=True)
class Load:
    """What is sent where."""

    port: int
    path: str
    key: str
    body: str
    connections: int
    seconds: float


class LoadFailed(Exception):
    """Some answers were no success, so that the numbers mean nothing."""


def once(load: Load) -> None:
    """Send one request and wait for its answer; raises urllib's errors."""
    headers = {"Authorization": f"Bearer {load.key}", "Content-Type": "application/json"}
    url = f"http://127.0.0.1:{load.port}{load.path}"
    urllib.request.urlopen(urllib.request.Request(url, load.body.encode(), headers), timeout=60).close()


def run(load: Load) -> int:
    """Send requests for some seconds; returns how many were answered.

    Raises:
        LoadFailed: Not all were answered with 200.
    """
    with tempfile.TemporaryDirectory() as directory:
        wrk = shutil.which("wrk")
        return _wrk(wrk, load, Path(directory)) if wrk else _own(load, Path(directory))


def _wrk(wrk: str, load: Load, directory: Path) -> int:
    script = directory / "load.lua"
    quoted = {"authorization": json.dumps(f"Bearer {load.key}"), "body": json.dumps(load.body)}
    script.write_text(_LUA.format(**quoted), encoding="utf-8")
    url = f"http://127.0.0.1:{load.port}{load.path}"
    command = [wrk, "-t1", f"-c{load.connections}", f"-d{load.seconds:g}s", "-s", str(script), url]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    answered = re.search(r"(\d+) requests in", said)
    if answered is None or "Non-2xx" in said or "Socket errors" in said:
        raise LoadFailed(said)
    if not int(answered[1]):
        raise LoadFailed("nothing was answered at all")
    return int(answered[1])


def _own(load: Load, directory: Path) -> int:
    script = directory / "load.json"
    script.write_text(json.dumps(asdict(load)), encoding="utf-8")
    command = [sys.executable, "-m", "benchmarks.gateway.load", str(script)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    answered, failed = map(int, said.split())
    if failed:
        raise LoadFailed(f"{failed} of {answered + failed} requests were not answered with 200")
    return answered


class _Client(asyncio.Protocol):
    """One connection that asks again as soon as it was answered; reads answers with a content-length."""

    def __init__(self, request: bytes, until_s: float) -> None:
        self._request = request
        self._until_s = until_s
        self._seen = b""
        self.answered = self.failed = 0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._ask()

    def data_received(self, data: bytes) -> None:
        self._seen += data
        end = self._seen.find(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", self._seen[: max(end, 0)].lower())
        if length is None or len(self._seen) < end + 4 + int(length[1]):
            return
        is_good = self._seen.startswith(b"HTTP/1.1 200 ")
        self.answered, self.failed = self.answered + is_good, self.failed + (not is_good)
        self._seen = b""
        if time.monotonic() < self._until_s:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.failed += time.monotonic() < self._until_s  # closed by the server
        self.done.set_result(None)

    def _ask(self) -> None:
        self._transport.write(self._request)  # type: ignore[attr-defined]  # a stream's transport


async def _drive(load: Load) -> tuple[int, int]:
    body = load.body.encode()
    head = (
        f"POST {load.path} HTTP/1.1\r\nHost: 127.0.0.1:{load.port}\r\nAuthorization: Bearer {load.key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    until_s = time.monotonic() + load.seconds
    loop, clients = asyncio.get_running_loop(), []
    for _ in range(load.connections):
        _, client = await loop.create_connection(lambda: _Client(head.encode() + body, until_s), "127.0.0.1", load.port)
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    return sum(client.answered for client in clients), sum(client.failed for client in clients)


if __name__ == "__main__":
    print(*uvloop.run(_drive(Load(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))))
