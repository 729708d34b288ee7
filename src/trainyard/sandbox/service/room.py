"""The room that a tenant has left, counted while the bytes of uploads come and before any of them has a name."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from trainyard.core import errors


@dataclass(slots=True)
class _Coming:
    """What is under way for one tenant in this process.

    Attributes:
        stored_bytes: Of the tenant, as they were when the newest of these uploads began.
        bytes: Stored by these uploads, and not named so far.
        uploads: How many there are.
    """

    stored_bytes: int = 0
    bytes: int = 0
    uploads: int = 0


class Rooms:
    """Room for uploads; all of one tenant at once have no more than he has left.

    The transaction that names files counts exactly. This keeps bytes for which it will find no room from the disk. It
    cannot tell yet what the tenant has stored before under another name, and counts that too.

    Args:
        max_bytes: What a tenant may store.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._coming: dict[str, _Coming] = {}

    def open(self, tenant: str, stored_bytes: int, replaced: Mapping[str, int]) -> "Room":
        """Begin an upload; `Room.close` has to follow.

        Args:
            tenant: Whose.
            stored_bytes: What he stores now.
            replaced: Bytes of the files that are there under their paths; this upload alone has their room too.
        """
        coming = self._coming.setdefault(tenant, _Coming())
        coming.stored_bytes = stored_bytes
        coming.uploads += 1
        return Room(self, tenant, coming, self._max_bytes, replaced)

    def forget(self, tenant: str) -> None:
        """Drop what is kept of a tenant for whom nothing is under way."""
        del self._coming[tenant]


class Room:
    """What one upload takes of the room.

    Attributes:
        taken_bytes: So far.
    """

    def __init__(self, rooms: Rooms, tenant: str, coming: _Coming, max_bytes: int, replaced: Mapping[str, int]) -> None:
        self.taken_bytes = 0
        self._rooms = rooms
        self._tenant = tenant
        self._coming = coming
        self._max_bytes = max_bytes
        self._replaced = dict(replaced)
        self._freed_bytes = 0

    async def counted(self, path: str, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Pass on the bytes of a file.

        Raises:
            errors.QuotaExhausted: They do not fit any more (code `storage_full`).
        """
        self._freed_bytes += self._replaced.pop(path, 0)
        async for piece in pieces:
            self._take(len(piece))
            yield piece

    def go_back(self, taken_bytes: int) -> None:
        """Give back what was taken since: it was not stored."""
        self._coming.bytes -= self.taken_bytes - taken_bytes
        self.taken_bytes = taken_bytes

    def close(self) -> None:
        """Give everything back: what was stored has names, or is gone."""
        self.go_back(0)
        self._coming.uploads -= 1
        if not self._coming.uploads:
            self._rooms.forget(self._tenant)

    def _take(self, size_bytes: int) -> None:
        coming, most = self._coming, self._max_bytes
        self.taken_bytes += size_bytes
        coming.bytes += size_bytes
        if coming.stored_bytes + coming.bytes > most + self._freed_bytes:
            raise errors.QuotaExhausted(
                f"Files and states of this tenant take {coming.stored_bytes} of {most} bytes, and what is being "
                "uploaded does not fit; delete files or sessions",
                code="storage_full",
                data={
                    "stored_bytes": coming.stored_bytes,
                    "max_stored_bytes": most,
                    "wanted_bytes": coming.bytes,
                },
            )
