"""Uploads for which a tenant has no room: refused while they come."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.unit.sandbox.service.conftest import ANNA, BERT, CARL, Make, Server, uploads
from trainyard.core import errors
from trainyard.core.settings import SandboxLimits
from trainyard.sandbox.types.domain import Upload

PIECE = 1 << 16
QUOTA = 1 << 20
LIMITS = SandboxLimits(stored_bytes=QUOTA)


class Sending:
    """A client that sends pieces, and stops in the middle where it is told to.

    Attributes:
        sent_bytes: So far.
        pauses: Is set when it has stopped.
        goes_on: Lets it go on.
    """

    def __init__(self, *sizes: int, pauses_at: int | None = None, prefix: str = "f") -> None:
        self.sent_bytes = 0
        self.pauses, self.goes_on = asyncio.Event(), asyncio.Event()
        self._sizes, self._pauses_at, self._prefix = sizes, pauses_at, prefix

    async def files(self) -> AsyncIterator[Upload]:
        """Give the files."""
        for number, size in enumerate(self._sizes):
            yield Upload(path=f"{self._prefix}{number}", content=self._content(number, size))

    async def _content(self, number: int, size: int) -> AsyncIterator[bytes]:
        for start in range(0, size, PIECE):
            if self.sent_bytes == self._pauses_at:
                self.pauses.set()
                await self.goes_on.wait()
            piece = f"{self._prefix}{number}:{start}".encode().ljust(min(PIECE, size - start), b".")
            self.sent_bytes += len(piece)
            yield piece


async def _lie_on_the_disk(server: Server) -> int:
    while server.service._parts.tasks:
        await asyncio.gather(*server.service._parts.tasks)
    return sum([blob.size_bytes async for blob in server.blobs.stored(min_age_s=0)])


@pytest.mark.parametrize("sizes", [[21 * QUOTA], [QUOTA // 2] * 42], ids=["one file", "many files"])
@pytest.mark.parametrize("one_by_one", [False, True])
async def test_an_upload_is_refused_at_the_first_byte_for_which_there_is_no_room(
    make: Make, sizes: list[int], one_by_one: bool
) -> None:
    server, sending = make(limits=LIMITS), Sending(*sizes)
    with pytest.raises(errors.QuotaExhausted) as full:
        await server.service.upload(ANNA, sending.files(), one_by_one=one_by_one)
    assert full.value.code == "storage_full"
    assert sending.sent_bytes <= QUOTA + PIECE
    assert await _lie_on_the_disk(server) == 0


async def test_uploads_at_the_same_time_share_the_room_of_their_tenant(make: Make) -> None:
    server = make(limits=LIMITS)
    first = Sending(QUOTA // 2 + PIECE, pauses_at=QUOTA // 2, prefix="a")
    upload = asyncio.create_task(server.service.upload(ANNA, first.files()))
    await first.pauses.wait()
    for _ in range(3):
        other = Sending(QUOTA, prefix="b")
        with pytest.raises(errors.QuotaExhausted):
            await server.service.upload(BERT, other.files())
        assert other.sent_bytes <= QUOTA // 2 + PIECE
    await server.service.upload(CARL, Sending(QUOTA, prefix="c").files())  # of another tenant
    first.goes_on.set()
    await upload
    await server.service.upload(BERT, Sending(QUOTA // 2 - PIECE, prefix="d").files())


async def test_room_of_an_upload_that_was_left_or_of_a_file_that_was_refused_is_free_again(make: Make) -> None:
    server = make(limits=LIMITS.model_copy(update={"file_bytes": QUOTA - PIECE}))
    left = Sending(QUOTA - PIECE, pauses_at=QUOTA // 2, prefix="a")
    upload = asyncio.create_task(server.service.upload(ANNA, left.files()))
    await left.pauses.wait()
    upload.cancel()
    with pytest.raises(asyncio.CancelledError):
        await upload
    assert await _lie_on_the_disk(server) == 0
    _, done = await server.service.upload(ANNA, Sending(QUOTA, QUOTA - PIECE, prefix="b").files(), one_by_one=True)
    assert [one.file is not None for one in done] == [False, True]


@pytest.mark.parametrize("is_named", [False, True], ids=["by its id", "by a name for it"])
async def test_a_file_has_the_room_of_the_one_that_it_replaces(make: Make, is_named: bool) -> None:
    server = make(limits=LIMITS)
    session, _ = await server.service.upload(ANNA, uploads({"f0": "x" * (QUOTA - 1)}), entity_id="mine")

    async def upload(size: int) -> str:
        files = Sending(size).files()
        into, entity_id = (None, "mine") if is_named else (session, None)
        return (await server.service.upload(ANNA, files, session_id=into, entity_id=entity_id))[0]

    assert [await upload(size) for size in (QUOTA - 1, QUOTA - 2)] == [session, session]
    with pytest.raises(errors.QuotaExhausted):
        await upload(4 * QUOTA)
    (file,) = await server.service.list_files(ANNA, session)
    assert file.size_bytes == QUOTA - 2
    assert await _lie_on_the_disk(server) == QUOTA - 2
