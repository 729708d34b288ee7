"""Checkpoint files on their way here: where each goes, and whether it is what its checksum says."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any, Self

from trainyard.sdk import errors


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a checkpoint.

    Attributes:
        url: Where it can be fetched, absolute or below the client's base URL.
        target: Where it goes.
        sha256: Hex digest of its bytes.
    """

    url: str
    target: Path
    sha256: str


def plan(run_id: str, artifact: Mapping[str, Any], directory: Path) -> Iterator[RemoteFile]:
    """Lay out the files of an artifact below a directory.

    Raises:
        ServerError: The artifact names a file outside the directory.
    """
    for file in artifact["manifest"]["files"]:
        name = PurePosixPath(file["path"])
        if name.is_absolute() or ".." in name.parts:
            raise errors.ServerError(f"the artifact names a file outside its directory: {file['path']!r}")
        url = f"/runs/{run_id}/artifacts/{artifact['id']}/files/{name}"
        yield RemoteFile(url, directory / name, file["sha256"])


class Arrival:
    """A file being written under a temporary name; it gets its own when it is whole and right.

    A context manager: leaving it checks and moves, an error removes what was written.
    """

    def __init__(self, file: RemoteFile) -> None:
        """Open the temporary file, its directory made when absent.

        Args:
            file: The name that it gets and the checksum that its bytes must have.
        """
        self._target = file.target
        self._expected = file.sha256
        self._hash = hashlib.sha256()
        self._target.parent.mkdir(parents=True, exist_ok=True)
        self._partial = self._target.with_name(self._target.name + ".part")
        self._file = self._partial.open("wb")

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        self._hash.update(chunk)
        self._file.write(chunk)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        found = self._hash.hexdigest()
        if error is None and found == self._expected:
            self._partial.replace(self._target)
            return
        self._partial.unlink()
        if error is None:
            raise errors.ServerError(f"{self._target.name} has SHA-256 {found}, its manifest says {self._expected}")
