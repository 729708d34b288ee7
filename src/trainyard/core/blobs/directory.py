"""Blobs as files of one directory: `ab/cdef…`, complete or absent."""

import asyncio
import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

from trainyard.core import disk, errors
from trainyard.core.blobs import base

_BUILDING = ".put-"
_SMALL_BYTES = 256 << 10
"""Contents up to here are gathered before they are written."""


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

    async def put_stream(self, pieces: AsyncIterator[bytes]) -> base.Blob:
        """See BlobStore."""
        begin, size_bytes = list[bytes](), 0
        async for piece in pieces:
            begin.append(piece)
            size_bytes += len(piece)
            if size_bytes > _SMALL_BYTES:
                break
        else:  # one change of threads in place of four
            return await self.put_bytes(b"".join(begin))
        building = await asyncio.to_thread(_Building, self._root)
        try:
            await asyncio.to_thread(building.write, b"".join(begin))
            del begin
            async for piece in pieces:
                await asyncio.to_thread(building.write, piece)
            return await asyncio.to_thread(self._move, building)
        finally:
            await asyncio.to_thread(building.remove)

    async def stored(self, *, min_age_s: float) -> AsyncIterator[base.Blob]:
        """See BlobStore."""
        newest_s = time.time() - min_age_s
        for number in range(256):
            for blob in await asyncio.to_thread(_old_blobs, self._root / f"{number:02x}", newest_s):
                yield blob

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

    async def remove_unfinished(self, *, min_age_s: float) -> int:
        """See BlobStore."""
        return await asyncio.to_thread(self._remove_unfinished, time.time() - min_age_s)

    async def ping(self) -> None:
        """See BlobStore."""
        try:
            await asyncio.to_thread(self._try)
        except OSError as error:
            raise errors.Unavailable(
                f"The directory of blobs cannot be written ({os.strerror(error.errno or 0)})", code="blobs_unavailable"
            ) from error

    async def aclose(self) -> None:
        """See BlobStore."""

    def _try(self) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self._root):
            pass

    def _remove_unfinished(self, newest_s: float) -> int:
        count = 0
        for directory in self._root.glob(f"{_BUILDING}*"):
            with contextlib.suppress(FileNotFoundError):  # its writer has finished meanwhile
                if directory.stat().st_mtime <= newest_s:
                    shutil.rmtree(directory)
                    count += 1
        return count

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
            self._name(temporary, sha256)
        return base.Blob(sha256, size_bytes)

    def _move(self, building: "_Building") -> base.Blob:
        blob = building.finish()
        self._name(building.path, blob.sha256)
        return blob

    def _name(self, temporary: Path, sha256: str) -> None:
        final = self._path(sha256)
        final.parent.mkdir(mode=0o700, exist_ok=True)
        temporary.replace(final)
        disk.sync_directory(final.parent)


class _Building:
    """A content that is being written under a temporary name; its methods block."""

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(prefix=_BUILDING, dir=root)) / "content"
        self._file = self.path.open("xb")
        self._hash = hashlib.sha256()

    def write(self, piece: bytes) -> None:
        """Add a piece."""
        self._hash.update(piece)
        self._file.write(piece)

    def finish(self) -> base.Blob:
        """Flush all of it to the disk; returns what it is."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return base.Blob(self._hash.hexdigest(), self._file.tell())

    def remove(self) -> None:
        """Remove the temporary name, where it has not become the blob's."""
        with contextlib.suppress(OSError):  # a full disk, which a write has told already
            self._file.close()
        shutil.rmtree(self.path.parent, ignore_errors=True)


def _old_blobs(directory: Path, newest_s: float) -> list[base.Blob]:
    """List the blobs of a directory by the time at which they got their name, which is later than their content's."""
    found: list[base.Blob] = []
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            sha256 = directory.name + entry.name
            facts = entry.stat(follow_symlinks=False)
            if base.is_address(sha256) and facts.st_ctime <= newest_s:
                found.append(base.Blob(sha256, facts.st_size))
    return found


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
