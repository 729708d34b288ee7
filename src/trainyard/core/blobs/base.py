"""The Protocol of blob stores, and what their implementations share."""

import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from trainyard.core import errors

CHUNK_BYTES = 1024 * 1024
"""Size of the pieces in which blobs are read and written: large enough for the disk, small enough for memory."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Blob:
    """One stored content.

    Attributes:
        sha256: Its address, 64 hex digits.
        size_bytes: Its length.
    """

    sha256: str
    size_bytes: int


class BlobStore(Protocol):
    """Keeps bytes under their hash; a blob is there completely or not at all."""

    async def put_file(self, path: Path) -> Blob:
        """Store the content of a file, which must not change afterwards; storing it again changes nothing."""
        ...

    async def put_bytes(self, content: bytes) -> Blob:
        """Store bytes; storing them again changes nothing."""
        ...

    async def put_stream(self, pieces: AsyncIterator[bytes]) -> Blob:
        """Store what comes in pieces, never whole in memory; when `pieces` raises, nothing is stored."""
        ...

    def stored(self, *, min_age_s: float) -> AsyncIterator[Blob]:
        """List the blobs that were put, for the last time, at least so many seconds ago; in no order."""
        ...

    def open(self, sha256: str) -> AsyncIterator[bytes]:
        """Stream a blob in pieces; the last piece comes only when the hash of all is right.

        Raises:
            errors.NotFound: There is no such blob (code `blob_not_found`).
            errors.TrainyardError: The stored bytes are not those that were put (code `blob_corrupt`).
            errors.InvalidRequest: `sha256` is not 64 hex digits.
        """
        ...

    async def exists(self, sha256: str) -> bool:
        """Whether the blob is there."""
        ...

    async def delete(self, sha256: str) -> bool:
        """Remove a blob; False when it was not there."""
        ...

    async def remove_unfinished(self, *, min_age_s: float) -> int:
        """Remove what writers that were killed have left, where they began so long ago; returns how many they were."""
        ...

    async def ping(self) -> None:
        """Return when blobs can be written and read.

        Raises:
            errors.Unavailable: They cannot.
        """
        ...

    async def aclose(self) -> None:
        """Give back what the store holds open."""
        ...


def is_address(text: str) -> bool:
    """Whether a text has the form of an address."""
    return _SHA256.fullmatch(text) is not None


def checked(sha256: str) -> str:
    """Return an address that is one, so that no other text becomes part of a path.

    Raises:
        errors.InvalidRequest: It is not 64 lower-case hex digits.
    """
    if not is_address(sha256):
        raise errors.InvalidRequest("a blob is named by 64 lower-case hex digits", param="sha256")
    return sha256


def absent(sha256: str) -> errors.NotFound:
    """Say that there is no such blob."""
    return errors.NotFound(f"There is no blob {sha256}", code="blob_not_found")


async def verified(pieces: AsyncIterator[bytes], sha256: str) -> AsyncIterator[bytes]:
    """Pass pieces on one behind, so that the last is only given when the hash of all is right."""
    state, held = hashlib.sha256(), b""
    async for piece in pieces:
        state.update(piece)
        if held:
            yield held
        held = piece
    if state.hexdigest() != sha256:
        raise errors.TrainyardError(f"The stored bytes of blob {sha256} are damaged", code="blob_corrupt")
    if held:
        yield held


async def begun(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Wait for the first piece of a stream, so that what goes wrong before it is told and not a broken answer."""
    first = await anext(pieces, None)

    async def whole() -> AsyncIterator[bytes]:
        if first is not None:
            yield first
        async for piece in pieces:
            yield piece

    return whole()
