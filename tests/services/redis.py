"""A Redis (or Valkey) of our own: one server per session, an empty database per test, or one that a test may kill."""

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.services import require

_START_TIMEOUT_S = 15.0
_DATABASES = 4096


class RedisServer:
    """A server on a loopback port without persistence, in a temporary directory; can be stopped and started again."""

    def __init__(self, program: str, directory: Path) -> None:
        self.port = _free_port()
        self._program = program
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._used = 0

    def url(self, number: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{number}"

    def next_url(self) -> str:
        """The URL of a database that no test has used."""
        self._used += 1
        return self.url(self._used)

    def start(self) -> None:
        log = self._directory / "log"
        options = {"port": self.port, "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": self._directory}
        options |= {"databases": _DATABASES, "daemonize": "no"}
        command = [self._program, *[part for name, value in options.items() for part in (f"--{name}", str(value))]]
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, cwd=self._directory)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with Redis(port=self.port, socket_timeout=2) as client:
                    client.ping()
                return
            except RedisError:
                time.sleep(0.02)
        self.stop()
        pytest.fail(f"Redis did not start:\n{log.read_text()[-2000:]}", pytrace=False)

    def pause(self) -> None:
        """Let it accept connections and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Kill it: what it held is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=30)
            self._process = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program() -> str | None:
    """The server on PATH, if there is one."""
    return shutil.which("redis-server") or shutil.which("valkey-server")


@contextmanager
def served() -> Iterator[RedisServer]:
    """Run one until the block ends."""
    found = program()
    if found is None:
        require.missing("Redis (redis-server or valkey-server)", "apt-get install redis-server")
    with tempfile.TemporaryDirectory(prefix="trainyard-redis-", ignore_cleanup_errors=True) as directory:
        server = RedisServer(found, Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with served() as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """An empty database of its own for one test."""
    return redis_server.next_url()


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server that one test may stop, pause and flush."""
    with served() as server:
        yield server
