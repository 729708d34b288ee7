"""A checkpoint on its way here: one tar file, unpacked when every file in it is what the manifest says."""

import hashlib
import os
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, Any, Self

from trainyard.sdk import errors

CHUNK_BYTES = 1 << 20


class Arrival:
    """The archive of one artifact, kept under a temporary name in the target directory until it is unpacked.

    A context manager: leaving it removes the archive.
    """

    def __init__(self, artifact: Mapping[str, Any], directory: Path) -> None:
        """Open the temporary file; the directory is made when absent.

        Args:
            artifact: With `manifest`: file name -> `sha256`, `size`.
            directory: Where the files go.

        Raises:
            ServerError: The manifest names a file outside the directory.
        """
        self._manifest: Mapping[str, Mapping[str, Any]] = artifact["manifest"]
        for name in self._manifest:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise errors.ServerError(f"the manifest names a file outside its directory: {name!r}")
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".arriving-", suffix=".tar", dir=directory)
        self._archive = Path(temporary)
        self._file = os.fdopen(descriptor, "wb")

    def write(self, chunk: bytes) -> None:
        """Append bytes."""
        self._file.write(chunk)

    def unpack(self) -> None:
        """Check every file, then give all of them their names.

        Raises:
            ServerError: A file is missing, too many, or not what its checksum says; none got its name.
        """
        self._file.close()
        with tempfile.TemporaryDirectory(prefix=".arriving-", dir=self._directory) as room:
            found = self._extract(Path(room))
            if found != set(self._manifest):
                wrong = ", ".join(sorted(found ^ set(self._manifest)))
                raise errors.ServerError(f"the archive does not hold what the manifest lists: {wrong}")
            for name in found:
                target = self._directory / name
                target.parent.mkdir(parents=True, exist_ok=True)
                Path(room, name).replace(target)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        self._archive.unlink()

    def _extract(self, room: Path) -> set[str]:
        found: set[str] = set()
        try:
            with tarfile.open(self._archive) as archive:
                for member in archive:
                    name = member.name.partition("/")[2]  # the archive has one folder
                    source = archive.extractfile(member)
                    if source is not None and name in self._manifest:
                        self._copy(source, name, room / name)
                    found.add(name)
        except tarfile.TarError as error:
            raise errors.ServerError(f"the download is not a whole tar file: {error}") from error
        return found

    def _copy(self, source: IO[bytes], name: str, target: Path) -> None:
        digest = hashlib.sha256()
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
        expected = self._manifest[name]["sha256"]
        if digest.hexdigest() != expected:
            raise errors.ServerError(f"{name} has SHA-256 {digest.hexdigest()}, its manifest says {expected}")
