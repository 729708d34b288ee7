"""What the supervisor hands to the HTTP process on standard input, so that nothing stands on its command line."""

import sys
from pathlib import Path
from typing import BinaryIO

import msgspec

from trainyard.core import errors


class Handover(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One JSON document; settings are loaded anew with the same flags and file, and from the inherited environment.

    Attributes:
        flags: For `settings.load`, by dotted name.
        config_file: For `settings.load`.
        listen_fd: Inherited descriptor of the listening TCP socket; the supervisor keeps it open over restarts of the
        HTTP process.
        url: Where clients find the server.
        control_socket: For `ControlClient`.
        socket_directory: For `EnginePool`, and for the sockets of the HTTP processes themselves.
        worker: Number of this HTTP process; 0 holds what must be in one place only.
    """

    flags: dict[str, str | int | None]
    config_file: str | None
    listen_fd: int
    url: str
    control_socket: str
    socket_directory: str
    worker: int = 0

    def socket_of(self, worker: int) -> Path:
        """Where an HTTP process of this server listens for the others and for the supervisor."""
        return Path(self.socket_directory, f"http-{worker}.sock")


def read(stream: BinaryIO | None = None) -> Handover:
    """Read the document to the end of the stream (standard input when left out).

    Raises:
        errors.StartupError: it is not a hand-over; the process was not started by `trainyard up`.
    """
    raw = (stream or sys.stdin.buffer).read()
    try:
        return msgspec.json.decode(raw, type=Handover)
    except msgspec.DecodeError as error:
        raise errors.StartupError(
            f"no hand-over on standard input ({error}); start the server with: trainyard up"
        ) from error


def write(handover: Handover) -> bytes:
    """Encode the document."""
    return msgspec.json.encode(handover)
