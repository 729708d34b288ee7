"""Blobs as files of one directory: `ab/cdef…`, complete or absent."""

import asyncio
import hashlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

from trainyard.core import disk
from trainyard.core.blobs import base

_BUILDING = ".put-"


class DirectoryBlobs:
    """A BlobStore in a directory.

    A file is written (or hard-linked, where it lies on the same file system) under a temporary name, hashed, flushed
    to the disk and then renamed. A linked file shares its bytes with the original: changing that in place would
    damage the blob, which reading would find out.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def put_file(self, path: Path) -> base.Blob:
        """See BlobStore."""
        return await asyncio.to_thread(self._put, lambda temporary: _link_or_copy(path, temporary))

    async def put_bytes(self, content: bytes) -> base.Blob:
        """See BlobStore."""
        return await asyncio.to_thread(self._put, lambda temporary: _write(content, temporary))

    async def open(self, sha256: str) -> AsyncIterator[bytes]:
        """See BlobStore."""
        path = self._path(sha256)
        try:
            file = await asyncio.to_thread(path.open, "rb")
        except FileNotFoundError as error:
            raise base.absent(sha256) from error
        with file:
            async for piece in base.verified(_pieces(file), sha256):
                yield piece

    async def exists(self, sha256: str) -> bool:
        """See BlobStore."""
        return await asyncio.to_thread(self._path(sha256).exists)

    async def delete(self, sha256: str) -> bool:
        """See BlobStore."""
        try:
            await asyncio.to_thread(self._path(sha256).unlink)
        except FileNotFoundError:
            return False
        return True

    def remove_unfinished(self) -> None:
        """Remove what writers that were killed have left; call it before there are writers."""
        for directory in self._root.glob(f"{_BUILDING}*"):
            shutil.rmtree(directory, ignore_errors=True)

    def _path(self, sha256: str) -> Path:
        base.checked(sha256)
        return self._root / sha256[:2] / sha256[2:]

    def _put(self, fill: Callable[[Path], None]) -> base.Blob:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_BUILDING, dir=self._root) as directory:
            temporary = Path(directory) / "content"
            fill(temporary)
            with temporary.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                size_bytes = file.tell()
                os.fsync(file.fileno())
            final = self._path(sha256)
            final.parent.mkdir(mode=0o700, exist_ok=True)
            temporary.replace(final)
            disk.sync_directory(final.parent)
        return base.Blob(sha256, size_bytes)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)  # the content, where the source is a symbolic link
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def _write(content: bytes, target: Path) -> None:
    target.write_bytes(content)


async def _pieces(file: BinaryIO) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(file.read, base.CHUNK_BYTES):
        yield piece
