"""`<data>/run.json`: what runs on a data directory, for people and for the next start."""

from pathlib import Path

import msgspec

from trainyard.core.processes.specs import ChildStatus


class RunFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a running server is.

    Attributes:
        pid: Of the supervisor.
        started_at: Unix seconds.
        control_socket: Answers `status`, `ensure` and `check`.
        socket_directory: Holds the sockets of the engines.
        sockets: Child name -> socket.
    """

    pid: int
    url: str
    started_at: float
    control_socket: str
    socket_directory: str
    sockets: dict[str, str]
    children: list[ChildStatus]


def write(path: Path, run: RunFile) -> None:
    """Write atomically, readable by the owner only."""
    building = path.with_name(f".{path.name}.{run.pid}")
    building.touch(mode=0o600)
    building.write_bytes(msgspec.json.format(msgspec.json.encode(run), indent=2) + b"\n")
    building.replace(path)


def read(path: Path) -> RunFile | None:
    """Read what the last server wrote; None when there is nothing readable."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunFile)
    except (OSError, msgspec.DecodeError):
        return None
