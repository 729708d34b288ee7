"""A checkpoint as one tar file, made while it is sent."""

import tarfile
from collections.abc import AsyncIterator, Mapping

from trainyard.core.blobs import BlobStore
from trainyard.training.types import FileFacts

_BLOCK = tarfile.BLOCKSIZE


def size_bytes(manifest: Mapping[str, FileFacts]) -> int:
    """Tell the size of the archive before it is made: per file a header and whole blocks, and two empty blocks."""
    return sum(len(_header(name, facts.size, 0)) + _padded(facts.size) for name, facts in manifest.items()) + 2 * _BLOCK


async def stream(blobs: BlobStore, manifest: Mapping[str, FileFacts], mtime: float) -> AsyncIterator[bytes]:
    """Give the archive piece by piece.

    Args:
        blobs: Where the contents are.
        manifest: Path inside the archive -> digest and size.
        mtime: Unix seconds, the same for every file.
    """
    for name, facts in sorted(manifest.items()):
        yield _header(name, facts.size, mtime)
        async for chunk in blobs.open(facts.sha256):
            yield chunk
        yield bytes(_padded(facts.size) - facts.size)
    yield bytes(2 * _BLOCK)


def _header(name: str, size: int, mtime: float) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = size, int(mtime), 0o644
    return info.tobuf(tarfile.GNU_FORMAT)


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
