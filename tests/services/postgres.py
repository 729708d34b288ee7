"""A Postgres of our own: one server per test session, one fresh database per test."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.services import require

_START_TIMEOUT_S = 30.0


class Postgres:
    """A running server on a loopback port, with its files in a temporary directory."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._made = 0

    def url(self, name: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}/{name}"

    def create_database(self) -> str:
        """Make an empty database and return its URL."""
        self._made += 1
        name = f"test_{self._made}"
        self._run(f"CREATE DATABASE {name}")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        self._run(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload, unused-ignore]


def _programs() -> Path | None:
    """The directory of initdb and postgres: on PATH, or where Debian hides it."""
    on_path = shutil.which("initdb")
    candidates = [Path(on_path).resolve().parent] if on_path else []
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((each for each in candidates if (each / "initdb").exists() and (each / "postgres").exists()), None)


def _as_other_user(directory: Path) -> list[str]:
    """Postgres refuses to run as root: give the directory to another user and become that one."""
    if os.geteuid() != 0:
        return []
    names = {entry.pw_name for entry in pwd.getpwall()}
    user = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
    os.chown(directory, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(server: Postgres, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            psycopg.connect(server.url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
        else:
            return
    pytest.fail(f"Postgres did not start:\n{log.read_text()[-2000:]}", pytrace=False)


class OwnPostgres(Postgres):
    """A server that a test may stop, kill and start again; its files stay."""

    def __init__(self, programs: Path, directory: Path) -> None:
        port = _free_port()
        super().__init__(port)
        self._directory, self._prefix = directory, _as_other_user(directory)
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(directory), "fsync": "off"}
        self._command = [*self._prefix, str(programs / "postgres"), "-D", str(directory / "data"), "-p", str(port)]
        self._command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        init = [*self._prefix, str(programs / "initdb"), "-D", str(directory / "data")]
        init += ["-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"]
        subprocess.run(init, check=True, capture_output=True, cwd=directory)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        log = self._directory / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(self._command, stdout=output, stderr=output, cwd=self._directory)
        _wait_until_up(self, self._process, log)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT closes open connections and ends cleanly, SIGQUIT ends as a crash does."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(timeout=30)
            self._process = None

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop every process of it without closing a line, as a host that hangs does."""
        assert self._process is not None
        pids = [self._process.pid, *_children(self._process.pid)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def installed() -> Iterator[OwnPostgres]:
    """Run one until the block ends."""
    programs = _programs()
    if programs is None:
        require.missing("Postgres (initdb)", "apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="trainyard-pg-", ignore_cleanup_errors=True) as temporary:
        server = OwnPostgres(programs, Path(temporary))
        try:
            server.start()
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    with installed() as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[OwnPostgres]:
    """A server for one test, which may stop and start it."""
    with installed() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """An empty database of its own for one test."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)
