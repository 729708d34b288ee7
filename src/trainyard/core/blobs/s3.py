"""Blobs as objects of a bucket: `prefix/ab/cdef…`, the layout of the directory store, so that either can be copied.

Objects appear when they are complete and never change, so a writer that is killed leaves no half of one.
"""

import asyncio
import hashlib
import io
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final

from trainyard.core import errors
from trainyard.core.blobs import base, s3_client
from trainyard.core.blobs.s3_client import Place

PART_BYTES: Final = 8 << 20
"""Up to here an object is one request; a larger one is sent in parts of this size, one of which is in memory."""

_MOST_PARTS: Final = 10_000
"""Of one upload: Amazon S3 User Guide, "multipart upload limits"."""

_FOLDER_DIGITS: Final = 2


class S3Blobs:
    """A BlobStore in a bucket; its connections belong to the event loop of the first call.

    An object that is there is put again all the same: that renews its age, by which collectors choose, and mends it.
    A content whose length is not known beforehand waits in a nameless file of `spool` until its hash is.
    """

    def __init__(self, place: Place, spool: Path) -> None:
        """Open nothing yet.

        Raises:
            errors.ConfigError: The client is not installed.
        """
        s3_client.check_installed()
        self._place, self._spool = place, spool
        self._at_the_end = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._opened: Any = None

    async def put_file(self, path: Path) -> base.Blob:
        """See BlobStore."""
        file = await asyncio.to_thread(path.open, "rb")
        with file:
            return await self._put(file, await asyncio.to_thread(_measure, file))

    async def put_bytes(self, content: bytes) -> base.Blob:
        """See BlobStore."""
        file = io.BytesIO(content)
        return await self._put(file, await asyncio.to_thread(_measure, file))

    async def put_stream(self, pieces: AsyncIterator[bytes]) -> base.Blob:
        """See BlobStore."""
        file = await asyncio.to_thread(_spool_file, self._spool)
        try:
            async for piece in pieces:
                await asyncio.to_thread(file.write, piece)
            return await self._put(file, await asyncio.to_thread(_measure, file))
        finally:
            await asyncio.to_thread(file.close)

    async def stored(self, *, min_age_s: float) -> AsyncIterator[base.Blob]:
        """See BlobStore; age is counted in whole seconds of the server's clock."""
        client, start = await self._client(), self._key("")
        asked = {"Bucket": self._place.bucket, "Prefix": start}
        while True:
            async with self._answering():
                page = await client.list_objects_v2(**asked)
            newest = s3_client.told_time(page) - timedelta(seconds=min_age_s)
            for entry in page.get("Contents", []):
                sha256 = entry["Key"].removeprefix(start).replace("/", "", 1)
                if base.is_address(sha256) and entry["LastModified"].replace(microsecond=0) <= newest:
                    yield base.Blob(sha256, entry["Size"])
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    async def open(self, sha256: str) -> AsyncIterator[bytes]:
        """See BlobStore."""
        named, client = self._named(sha256), await self._client()
        async with self._answering(absent=base.absent(sha256)):
            answer = await client.get_object(**named)
        async with answer["Body"] as body:
            async for piece in base.verified(self._pieces(body), sha256):
                yield piece

    async def exists(self, sha256: str) -> bool:
        """See BlobStore."""
        named, client = self._named(sha256), await self._client()
        async with self._answering():
            if await s3_client.is_found(client.head_object(**named)):
                return True
        await self.ping()  # a bucket that is not there is answered in the same way
        return False

    async def delete(self, sha256: str) -> bool:
        """See BlobStore; of several at the same time more than one may be told True."""
        was_there, client = await self.exists(sha256), await self._client()
        async with self._answering():
            await client.delete_object(**self._named(sha256))
        return was_there

    async def remove_unfinished(self, *, min_age_s: float) -> int:
        """See BlobStore: uploads in parts, which are in no listing of objects; a thousand at most in one call."""
        client = await self._client()
        try:
            async with self._answering(absent=errors.NotFound()):
                page = await client.list_multipart_uploads(Bucket=self._place.bucket, Prefix=self._key(""))
        except errors.NotFound:  # rclone's answer to "list them" before the first
            await self.ping()
            return 0
        newest = s3_client.told_time(page) - timedelta(seconds=min_age_s)
        old = [upload for upload in page.get("Uploads", []) if upload["Initiated"].replace(microsecond=0) <= newest]
        for upload in old:
            async with self._answering():
                await client.abort_multipart_upload(
                    Bucket=self._place.bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )
        return len(old)

    async def ping(self) -> None:
        """See BlobStore."""
        client = await self._client()
        async with self._answering():
            await client.head_bucket(Bucket=self._place.bucket)

    async def aclose(self) -> None:
        """See BlobStore."""
        self._opened = None
        await self._at_the_end.aclose()

    async def _client(self) -> Any:
        """Make the client at the first call, which takes a tenth of a second: it reads a description of S3."""
        async with self._opening:
            if self._opened is None:
                async with self._answering():
                    self._opened = await self._at_the_end.enter_async_context(s3_client.connect(self._place))
        return self._opened

    def _answering(
        self, *, sent_bytes: int = 0, absent: errors.NotFound | None = None
    ) -> AbstractAsyncContextManager[None]:
        return s3_client.answering(self._place, sent_bytes=sent_bytes, absent=absent)

    def _key(self, rest: str) -> str:
        return f"{self._place.prefix}/{rest}" if self._place.prefix else rest

    def _named(self, sha256: str) -> dict[str, str]:
        base.checked(sha256)
        key = self._key(f"{sha256[:_FOLDER_DIGITS]}/{sha256[_FOLDER_DIGITS:]}")
        return {"Bucket": self._place.bucket, "Key": key}

    async def _put(self, file: BinaryIO, blob: base.Blob) -> base.Blob:
        client, named = await self._client(), self._named(blob.sha256)
        if blob.size_bytes > PART_BYTES:
            await self._put_in_parts(client, named, file, blob.size_bytes)
        else:
            content = await asyncio.to_thread(file.read)
            async with self._answering(sent_bytes=len(content)):
                await client.put_object(**named, Body=content)
        return blob

    async def _put_in_parts(self, client: Any, named: dict[str, str], file: BinaryIO, size_bytes: int) -> None:
        """Send a large object; whatever interrupts that, no part of it stays behind."""
        async with self._answering():
            begun = await client.create_multipart_upload(**named)
        upload = {**named, "UploadId": begun["UploadId"]}
        try:
            parts = await self._send_parts(client, upload, file, max(PART_BYTES, -(-size_bytes // _MOST_PARTS)))
            async with self._answering():
                await client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        except BaseException:  # cancelled callers too
            await asyncio.shield(self._give_up(client, upload))
            raise

    async def _send_parts(
        self, client: Any, upload: dict[str, str], file: BinaryIO, part_bytes: int
    ) -> list[dict[str, object]]:
        parts: list[dict[str, object]] = []
        while content := await asyncio.to_thread(file.read, part_bytes):
            async with self._answering(sent_bytes=len(content)):
                sent = await client.upload_part(**upload, PartNumber=len(parts) + 1, Body=content)
            parts.append({"PartNumber": len(parts) + 1, "ETag": sent["ETag"]})
        return parts

    async def _give_up(self, client: Any, upload: dict[str, str]) -> None:
        try:
            async with self._answering():
                await client.abort_multipart_upload(**upload)
        except errors.Unavailable:  # in the log; the caller is told what came before, `remove_unfinished` does the rest
            return

    async def _pieces(self, body: Any) -> AsyncIterator[bytes]:
        held = bytearray()
        while True:
            async with self._answering():
                piece = await body.read(base.CHUNK_BYTES)
            held += piece
            while len(held) >= base.CHUNK_BYTES or (held and not piece):
                yield bytes(held[: base.CHUNK_BYTES])
                del held[: base.CHUNK_BYTES]
            if not piece:
                return


def _spool_file(directory: Path) -> BinaryIO:
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return tempfile.TemporaryFile(dir=directory)


def _measure(file: BinaryIO) -> base.Blob:
    """Hash a file from its beginning, and go back there."""
    file.seek(0)
    sha256 = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    size_bytes = file.seek(0, io.SEEK_END)
    file.seek(0)
    return base.Blob(sha256, size_bytes)
