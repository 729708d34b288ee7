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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    programs = _programs()
    if programs is None:
        require.missing("Postgres (initdb)", "apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="trainyard-pg-", ignore_cleanup_errors=True) as temporary:
        directory = Path(temporary)
        prefix = _as_other_user(directory)
        data, log, port = directory / "data", directory / "log", _free_port()
        init = [*prefix, str(programs / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"]
        subprocess.run(init, check=True, capture_output=True, cwd=directory)
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(directory), "fsync": "off"}
        command = [*prefix, str(programs / "postgres"), "-D", str(data), "-p", str(port)]
        command += [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with log.open("wb") as output:
            process = subprocess.Popen(command, stdout=output, stderr=output, cwd=directory)
        try:
            server = Postgres(port)
            _wait_until_up(server, process, log)
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # fast shutdown: open connections are closed
            process.wait(timeout=30)


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """An empty database of its own for one test."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)
