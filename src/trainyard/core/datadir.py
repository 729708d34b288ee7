"""The data directory: private, locked by one server at a time, with its secret and its directory of sockets."""

import fcntl
import os
import secrets
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from typing import Final

from trainyard.core import disk, errors
from trainyard.core.processes import runfile

SOCKET_PATH_BYTES: Final = 107
"""sun_path of unix(7) holds 108 bytes with the closing zero."""

_LONGEST_SOCKET_NAME: Final = 24 + 1 + 8 + len(".sock")
_SECRET_BYTES: Final = 32


class DataDirectory:
    """Paths of one data directory; nothing is made before `prepare`."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.lock = self.path / "lock"
        self.run_json = self.path / "run.json"
        self.secret = self.path / "secret"
        self.logs = self.path / "logs"
        self.blobs = self.path / "blobs"
        self.database = self.path / "trainyard.db"

    def prepare(self) -> None:
        """Make the directory, with mode 0700 when it is new or empty.

        Raises:
            errors.StartupError: it cannot be made or written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not any(self.path.iterdir()):
                self.path.chmod(0o700)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            message = f"the data directory {self.path} cannot be written ({why}); choose another with --data-dir"
            raise errors.StartupError(message, code="data_dir_unwritable", param="data_dir") from error

    def read_secret(self) -> bytes:
        """Read the secret, made at the first call; of several first callers one wins and all read the same.

        Raises:
            errors.StartupError: the file can be read by others than its owner, or is not a secret.
        """
        if not self.secret.exists():
            self._make_secret()
        mode = stat.S_IMODE(self.secret.stat().st_mode)
        if mode & 0o077:
            raise errors.StartupError(
                f"{self.secret} can be read by others (mode {mode:o}); set it to 600", code="secret_exposed"
            )
        value = self.secret.read_bytes().strip()
        if len(value) < _SECRET_BYTES:
            raise errors.StartupError(
                f"{self.secret} is damaged; restore it, since keys depend on it", code="secret_damaged"
            )
        return value

    def _make_secret(self) -> None:
        building = self.path / f".secret.{os.getpid()}.{secrets.token_hex(4)}"
        descriptor = os.open(building, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(_SECRET_BYTES).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(building, self.secret)  # fails when another was first; the file appears whole
        except FileExistsError:
            pass
        finally:
            building.unlink()
        disk.sync_directory(self.path)  # keys that are written later must not outlive it in a power cut


class DataDirectoryLock:
    """Held by the supervisor while it lives; the kernel lets go of it when the process ends, in whatever way."""

    def __init__(self, data: DataDirectory) -> None:
        """Take the lock.

        Raises:
            errors.StartupError: another server holds it; its pid is named.
        """
        self._descriptor = os.open(data.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            message = f"{data.path} is in use by the server with pid {holder}; stop it or choose another --data-dir"
            raise errors.StartupError(message, code="data_dir_locked", param="data_dir") from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let go."""
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def make_socket_directory() -> Path:
    """Make a private directory for sockets under the system's temporary directory.

    Raises:
        errors.StartupError: the path would leave no room for the names of sockets.
    """
    base = Path(tempfile.gettempdir())
    longest = len(os.fsencode(base / "trainyard-12345678")) + 1 + _LONGEST_SOCKET_NAME
    if longest > SOCKET_PATH_BYTES:
        message = f"{base} is too long for unix sockets ({longest} of {SOCKET_PATH_BYTES} bytes); set a shorter TMPDIR"
        raise errors.StartupError(message, code="socket_path_too_long", param="TMPDIR")
    return Path(tempfile.mkdtemp(prefix="trainyard-"))


def remove_stale_sockets(data: DataDirectory) -> None:
    """Remove the socket directory that a killed server left; call it with the lock held.

    A run file can come from a copy of the data directory of a server that still runs: its sockets stay.
    """
    last = runfile.read(data.run_json)
    if last is None or _is_answered(Path(last.control_socket)):
        return
    directory = Path(last.socket_directory)
    is_ours = directory.name.startswith("trainyard-") and directory.is_dir() and not directory.is_symlink()
    if is_ours and directory.stat().st_uid == os.getuid():
        shutil.rmtree(directory, ignore_errors=True)


def _is_answered(path: Path) -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(path))
    except OSError:
        return False
    return True
