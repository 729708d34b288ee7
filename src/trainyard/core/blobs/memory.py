"""Blobs in a dict, for tests and for servers that are thrown away."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

from trainyard.core.blobs import base


class MemoryBlobs:
    """A BlobStore that forgets everything with its process."""

    def __init__(self) -> None:
        self._contents: dict[str, bytes] = {}
        self._put_at_s: dict[str, float] = {}

    async def put_file(self, path: Path) -> base.Blob:
        """See BlobStore."""
        return await self.put_bytes(await asyncio.to_thread(path.read_bytes))

    async def put_bytes(self, content: bytes) -> base.Blob:
        """See BlobStore."""
        sha256 = hashlib.sha256(content).hexdigest()
        self._contents[sha256], self._put_at_s[sha256] = content, time.monotonic()
        return base.Blob(sha256, len(content))

    async def put_stream(self, pieces: AsyncIterator[bytes]) -> base.Blob:
        """See BlobStore."""
        return await self.put_bytes(b"".join([piece async for piece in pieces]))

    async def stored(self, *, min_age_s: float) -> AsyncIterator[base.Blob]:
        """See BlobStore."""
        newest_s = time.monotonic() - min_age_s
        old = [sha256 for sha256, put_at_s in self._put_at_s.items() if put_at_s <= newest_s]
        for sha256 in old:
            if sha256 in self._contents:
                yield base.Blob(sha256, len(self._contents[sha256]))

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
        self._put_at_s.pop(base.checked(sha256), None)
        return self._contents.pop(sha256, None) is not None

    async def remove_unfinished(self, *, min_age_s: float) -> int:
        """See BlobStore."""
        return 0

    async def ping(self) -> None:
        """See BlobStore."""

    async def aclose(self) -> None:
        """See BlobStore."""
