"""Blobs in a dict, for tests and for servers that are thrown away."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

from trainyard.core.blobs import base


class MemoryBlobs:
    """A BlobStore that forgets everything with its process."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}

    async def put_file(self, path: Path) -> base.Blob:
        """See BlobStore."""
        return await self.put_bytes(await asyncio.to_thread(path.read_bytes))

    async def put_bytes(self, content: bytes) -> base.Blob:
        """See BlobStore."""
        sha256 = hashlib.sha256(content).hexdigest()
        self._contents[sha256] = content
        return base.Blob(sha256, len(content))

    async def open(self, sha256: str) -> AsyncIterator[bytes]:
        """See BlobStore."""
        content = self._contents.get(base.checked(sha256))
        if content is None:
            raise base.absent(sha256)
        for start in range(0, len(content), base.CHUNK_BYTES):
            yield content[start : start + base.CHUNK_BYTES]

    async def exists(self, sha256: str) -> bool:
        """See BlobStore."""
        return base.checked(sha256) in self._contents

    async def delete(self, sha256: str) -> bool:
        """See BlobStore."""
        return self._contents.pop(base.checked(sha256), None) is not None
