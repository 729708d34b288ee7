"""Blobs as objects of a bucket: `prefix/ab/cdef…`, the layout of the directory store, so that either can be copied.

The one place where a client of S3 is made; the library is imported when the first store is: without `blobs.url` none is
needed. Objects appear when they are complete and never change, so a writer that is killed leaves no half of one.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import logging
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, BinaryIO, Final

import aiohttp

from trainyard.core import errors
from trainyard.core.blobs import base

PART_BYTES: Final = 8 << 20
"""Up to here an object is one request; a larger one is sent in parts of this size, one of which is in memory."""

_MOST_PARTS: Final = 10_000
"""Of one upload: Amazon S3 User Guide, "multipart upload limits"."""

_CONNECT_TIMEOUT_S: Final = 2.0
_ATTEMPTS: Final = 2
"""The second is for connections that the server closed while nobody used them."""

_CONNECTIONS: Final = 50
_LAYOUT_DIGITS: Final = 2
_NO_BUCKET: Final = "NoSuchBucket"
_BARE_NOT_FOUND: Final = "404"
"""The code that the client makes up for the answer to a HEAD, which has no body to name one."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """A bucket and how to get there.

    Attributes:
        prefix: Of all keys, without slashes at its ends; may be empty.
        endpoint: Of a server that is not AWS.
        region: None takes that of the AWS environment.
        keys: Key id and secret; None asks the AWS environment, profile and instance.
        is_path_style: Whether the bucket stands in the path.
        timeout_s: Longest wait for one answer, or for the next bytes of one.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    keys: tuple[str, str] | None = None
    is_path_style: bool = False
    timeout_s: float = 10.0


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
        try:
            import aiobotocore.session  # noqa: F401 - told at the start, not at the first blob
        except ModuleNotFoundError as error:
            raise errors.ConfigError(
                "blobs.url is set, but the client of S3 is not installed; run: pip install 'trainyard[s3]'",
                param="blobs.url",
            ) from error
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
        return await self._put(io.BytesIO(content), await asyncio.to_thread(_measure, io.BytesIO(content)))

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
        asked: dict[str, str] = {"Bucket": self._place.bucket, "Prefix": start}
        while True:
            with _answering():
                page = await client.list_objects_v2(**asked)
            newest = _told_time(page) - timedelta(seconds=min_age_s)
            for entry in page.get("Contents", []):
                sha256 = entry["Key"].removeprefix(start).replace("/", "", 1)
                if base.is_address(sha256) and entry["LastModified"].replace(microsecond=0) <= newest:
                    yield base.Blob(sha256, entry["Size"])
            if not page.get("IsTruncated"):
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    async def open(self, sha256: str) -> AsyncIterator[bytes]:
        """See BlobStore."""
        async with self._body(sha256) as body:
            async for piece in base.verified(_pieces(body), sha256):
                yield piece

    async def exists(self, sha256: str) -> bool:
        """See BlobStore."""
        client, named = await self._client(), self._named(sha256)
        with _answering():
            if await _is_found(client.head_object(**named)):
                return True
            await client.head_bucket(Bucket=self._place.bucket)  # the same answer stands for a bucket that is not there
            return False

    async def delete(self, sha256: str) -> bool:
        """See BlobStore; of several at the same time more than one may be told True."""
        was_there = await self.exists(sha256)
        client = await self._client()
        with _answering():
            await client.delete_object(**self._named(sha256))
        return was_there

    async def remove_unfinished(self, *, min_age_s: float) -> int:
        """Give up uploads in parts that began so long ago that their writers must have been killed; returns how many.

        They are no objects and in no listing, but take room. One call gives up a thousand at most.
        """
        client, count = await self._client(), 0
        with _answering():
            page = await client.list_multipart_uploads(Bucket=self._place.bucket, Prefix=self._key(""))
            newest = _told_time(page) - timedelta(seconds=min_age_s)
            for upload in page.get("Uploads", []):
                if upload["Initiated"].replace(microsecond=0) <= newest:
                    named = {"Bucket": self._place.bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                    await client.abort_multipart_upload(**named)
                    count += 1
        return count

    async def ping(self) -> None:
        """Ask whether the bucket is there and open to us.

        Raises:
            errors.Unavailable: It is not.
        """
        client = await self._client()
        with _answering():
            await client.head_bucket(Bucket=self._place.bucket)

    async def aclose(self) -> None:
        """Close all connections."""
        self._opened = None
        await self._at_the_end.aclose()

    async def _client(self) -> Any:
        """Make the client at the first call: half a second of reading its description of S3."""
        async with self._opening:
            if self._opened is None:
                with _answering():
                    self._opened = await self._at_the_end.enter_async_context(_make_client(self._place))
        return self._opened

    def _key(self, rest: str) -> str:
        return f"{self._place.prefix}/{rest}" if self._place.prefix else rest

    def _named(self, sha256: str) -> dict[str, str]:
        base.checked(sha256)
        key = self._key(f"{sha256[:_LAYOUT_DIGITS]}/{sha256[_LAYOUT_DIGITS:]}")
        return {"Bucket": self._place.bucket, "Key": key}

    async def _put(self, file: BinaryIO, blob: base.Blob) -> base.Blob:
        client, named = await self._client(), self._named(blob.sha256)
        if blob.size_bytes > PART_BYTES:
            await _put_in_parts(client, named, file, blob.size_bytes)
        else:
            content = await asyncio.to_thread(file.read)
            with _answering():
                await client.put_object(**named, Body=content)
        return blob

    @asynccontextmanager
    async def _body(self, sha256: str) -> AsyncIterator[Any]:
        client, named = await self._client(), self._named(sha256)
        with _answering(absent=base.absent(sha256)):
            answer = await client.get_object(**named)
        async with answer["Body"] as body:
            yield body


def _make_client(place: Place) -> Any:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    key_id, secret = place.keys or (None, None)
    config = AioConfig(
        s3={"addressing_style": "path" if place.is_path_style else "auto"},
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=place.timeout_s,
        retries={"total_max_attempts": _ATTEMPTS, "mode": "standard"},
        max_pool_connections=_CONNECTIONS,
        request_checksum_calculation="when_required",  # many servers refuse what AWS has added since; we verify anyway
        response_checksum_validation="when_required",
    )
    return get_session().create_client(
        "s3",
        region_name=place.region,
        endpoint_url=place.endpoint,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=config,
    )


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


async def _put_in_parts(client: Any, named: dict[str, str], file: BinaryIO, size_bytes: int) -> None:
    """Send a large object; whatever interrupts that, no part of it stays behind."""
    with _answering():
        begun = await client.create_multipart_upload(**named)
    upload = {**named, "UploadId": begun["UploadId"]}
    try:
        parts = await _send_parts(client, upload, file, max(PART_BYTES, -(-size_bytes // _MOST_PARTS)))
        with _answering():
            await client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    except BaseException:  # cancelled callers too
        await asyncio.shield(_give_up(client, upload))
        raise


async def _send_parts(client: Any, upload: dict[str, str], file: BinaryIO, part_bytes: int) -> list[dict[str, object]]:
    parts: list[dict[str, object]] = []
    while content := await asyncio.to_thread(file.read, part_bytes):
        with _answering():
            sent = await client.upload_part(**upload, PartNumber=len(parts) + 1, Body=content)
        parts.append({"PartNumber": len(parts) + 1, "ETag": sent["ETag"]})
    return parts


async def _give_up(client: Any, upload: dict[str, str]) -> None:
    try:
        with _answering():
            await client.abort_multipart_upload(**upload)
    except errors.Unavailable:  # already in the log; the caller is told of what came before
        return


async def _pieces(body: Any) -> AsyncIterator[bytes]:
    held = bytearray()
    while True:
        with _answering():
            piece = await body.read(base.CHUNK_BYTES)
        held += piece
        while len(held) >= base.CHUNK_BYTES or (held and not piece):
            yield bytes(held[: base.CHUNK_BYTES])
            del held[: base.CHUNK_BYTES]
        if not piece:
            return


async def _is_found(asked: Any) -> bool:
    from botocore.exceptions import ClientError

    try:
        await asked
    except ClientError as error:
        if _status(error) == HTTPStatus.NOT_FOUND:
            return False
        raise
    return True


def _told_time(answer: dict[str, Any]) -> datetime:
    """Tell the time by the server's clock, which also dates the objects."""
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])


def _status(error: Any) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


@contextmanager
def _answering(absent: errors.NotFound | None = None) -> Iterator[None]:
    """Turn what goes wrong between us and S3 into the errors of the family.

    Args:
        absent: Raised where S3 says that there is no such object.

    Raises:
        errors.Unavailable: S3 is away, too slow or overloaded (`blobs_unavailable`, `retry_after_s` is 1), does not
            accept our keys (`blobs_refused`), or has no such bucket (`blobs_bucket_missing`).
    """
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if absent is not None and _status(error) == HTTPStatus.NOT_FOUND and code != _NO_BUCKET:
            raise absent from error
        raise _refusal(error, _status(error), code) from error
    except NoCredentialsError as error:
        raise _refusal(error, HTTPStatus.UNAUTHORIZED) from error
    except (BotoCoreError, aiohttp.ClientError, OSError, TimeoutError) as error:
        raise _refusal(error) from error


def _refusal(cause: BaseException, status: int = 0, code: str = "") -> errors.Unavailable:
    """Make the error for an answer that is none of those that a BlobStore has words for.

    The cause goes into the log alone: strangers read the message of the error.
    """
    _log.warning("The blob store does not answer: %s", " ".join(str(cause).split()) or type(cause).__name__)
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return errors.Unavailable("The blob store refuses our keys; an operator has to act", code="blobs_refused")
    if code in (_NO_BUCKET, _BARE_NOT_FOUND):
        return errors.Unavailable(
            "The bucket of the blob store is not there; an operator has to act", code="blobs_bucket_missing"
        )
    return errors.Unavailable(
        "The blob store does not answer; the log says why", code="blobs_unavailable", retry_after_s=1
    )
