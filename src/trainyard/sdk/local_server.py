"""A server of one's own: `trainyard up` as a child process, for the demo, for tests, for a script that needs one."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from trainyard.core import errors
from trainyard.core.http import tls
from trainyard.core.processes import child, runfile
from trainyard.sdk import environment as client_environment

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 40.0
"""Longer than the server's own deadline for draining, 30 s."""
POLL_S = 0.1
PROBE_TIMEOUT_S = 5.0
LOG_LINES = 5


class LocalServer:
    """A child process that serves on a free port of 127.0.0.1 and dies with this process.

    Attributes:
        data_dir: Its data; kept when it stops.
        url: Base URL, once entered.
        key: An admin key that ends after a day, once entered.
        log: What the server printed.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        arguments: tuple[str, ...] = (),
        environment: Mapping[str, str] | None = None,
        ca: Path | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
        stop_timeout_s: float = STOP_TIMEOUT_S,
    ) -> None:
        """Prepare; entering starts it.

        Args:
            data_dir: Made when absent.
            arguments: More arguments for `trainyard up`.
            environment: More variables for it.
            ca: Certificate to trust where it speaks HTTPS with one that is not its own.
            start_timeout_s: Until its readiness, the engine's start included.
            stop_timeout_s: Until it is ended by force.
        """
        self.data_dir = data_dir.absolute()
        self.log = self.data_dir / "up.log"
        self.url = ""
        self.key = ""
        self._arguments = arguments
        self._ca = ca
        self._environment = {**os.environ, **(environment or {})}
        self._start_timeout_s = start_timeout_s
        self._stop_timeout_s = stop_timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def ca(self) -> Path | None:
        """What to trust (`Client(ca=…)`): what was given, else its self-signed certificate; None where it has none."""
        own = tls.own_certificate(self.data_dir)
        return self._ca or (own if self.url.startswith("https:") and own.exists() else None)

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.key = self._create_key()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until it is ready; also again, when it has ended.

        Raises:
            errors.Conflict: It runs already.
            errors.StartupError: It ended, or was not ready in time; the message has its last words.
        """
        if self._process is not None and self._process.poll() is None:
            raise errors.Conflict(f"the server runs already, with pid {self._process.pid}")
        command = [sys.executable, "-I", "-S", child.__file__, str(os.getpid()), *self._up()]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment, start_new_session=True
            )
        with contextlib.ExitStack() as undo:
            undo.callback(self.stop)
            self._wait()
            undo.pop_all()

    def stop(self) -> None:
        """Have it drain and end, by force when it takes too long; a second call changes nothing."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(self._stop_timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _up(self) -> list[str]:
        return [
            sys.executable, "-m", "trainyard", "up", "--host", "127.0.0.1", "--port", "0", "--data-dir",
            str(self.data_dir), *self._arguments,
        ]  # fmt: skip

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + self._start_timeout_s
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise errors.StartupError(f"the server ended with status {self._process.returncode}: {self._words()}")
            self.url = self._find_url()
            if self.url and answers(self.url, self.ca):
                return
            time.sleep(POLL_S)
        raise errors.StartupError(f"the server was not ready after {self._start_timeout_s:.0f} s: {self._words()}")

    def _find_url(self) -> str:
        """Read the address that the child wrote; empty while it has not, or while another server's stands there."""
        found = runfile.read(self.data_dir / "run.json")
        return found.url if found is not None and found.pid == self.pid else ""

    def _create_key(self) -> str:
        command = [
            sys.executable, "-m", "trainyard", "keys", "create", "--json", "--data-dir", str(self.data_dir),
            "--expires-s", "86400", "--description", "local server",
        ]  # fmt: skip
        made = subprocess.run(command, capture_output=True, text=True, env=self._environment, check=False)
        if made.returncode != 0:
            raise errors.StartupError(made.stderr.strip() or f"keys create ended with status {made.returncode}")
        return str(json.loads(made.stdout)["key"])

    def _words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return " | ".join(lines[-LOG_LINES:]) or "it printed nothing"


def answers(url: str, ca: Path | None = None) -> bool:
    """Ask a server whether it is ready; nobody there is a no, and so is one whose certificate is not trusted."""
    try:
        asked = httpx.get(f"{url}/readyz", timeout=PROBE_TIMEOUT_S, verify=client_environment.trust(ca))
        return asked.status_code == httpx.codes.OK
    except httpx.TransportError:
        return False
