"""What only a bucket has: uploads in parts, pages of listings, keys of the environment, neighbours in the bucket."""

import asyncio
import dataclasses
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.contract.core.blobs.relay import Relay, relayed
from tests.services.s3 import S3Server
from trainyard.core import errors
from trainyard.core.blobs.base import CHUNK_BYTES
from trainyard.core.blobs.s3 import PART_BYTES, S3Blobs
from trainyard.core.blobs.s3_client import Place

ABC = hashlib.sha256(b"abc").hexdigest()
LARGE = bytes(range(256)) * (2 * PART_BYTES // 256) + b"rest"

Opener = Callable[[Place], AbstractAsyncContextManager[S3Blobs]]


@pytest.fixture
def opened(tmp_path: Path) -> Opener:
    @asynccontextmanager
    async def opening(place: Place) -> AsyncIterator[S3Blobs]:
        blobs = S3Blobs(place, tmp_path / "spool")
        try:
            yield blobs
        finally:
            await blobs.aclose()

    return opening


def keys(server: S3Server, bucket: str) -> list[str]:
    return [entry["Key"] for entry in server.client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def uploads(server: S3Server, bucket: str) -> list[Any]:
    return list(server.client.list_multipart_uploads(Bucket=bucket).get("Uploads", []))


def through(relay: Relay, place: Place) -> Place:
    return dataclasses.replace(place, endpoint=relay.endpoint)


async def read(blobs: S3Blobs, sha256: str) -> bytes:
    content = bytearray()
    await read_into(content, blobs, sha256)
    return bytes(content)


async def read_into(content: bytearray, blobs: S3Blobs, sha256: str) -> None:
    async for piece in blobs.open(sha256):
        content += piece


async def test_a_large_blob_goes_in_parts_and_comes_back(s3_server: S3Server, opened: Opener, tmp_path: Path) -> None:
    bucket = s3_server.create_bucket()
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    async with opened(s3_server.place(bucket)) as blobs:
        blob = await blobs.put_file(path)
        assert (blob.sha256, blob.size_bytes) == (hashlib.sha256(LARGE).hexdigest(), len(LARGE))
        assert await read(blobs, blob.sha256) == LARGE
        assert await blobs.put_bytes(LARGE) == blob
    assert keys(s3_server, bucket) == [f"{blob.sha256[:2]}/{blob.sha256[2:]}"]
    assert uploads(s3_server, bucket) == []


async def test_an_upload_whose_caller_leaves_leaves_nothing(
    moto_server: S3Server, opened: Opener, tmp_path: Path
) -> None:
    bucket, path = moto_server.create_bucket(), tmp_path / "file"
    path.write_bytes(LARGE)
    async with relayed(moto_server.endpoint) as relay, opened(through(relay, moto_server.place(bucket))) as blobs:
        relay.stall("up", PART_BYTES + CHUNK_BYTES)
        putting = asyncio.ensure_future(blobs.put_file(path))
        await relay.reached.wait()
        assert len(await asyncio.to_thread(uploads, moto_server, bucket)) == 1
        relay.mend()
        putting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await putting
        assert (keys(moto_server, bucket), uploads(moto_server, bucket)) == ([], [])


async def test_an_upload_whose_line_breaks_goes_on_over_another(
    moto_server: S3Server, opened: Opener, tmp_path: Path
) -> None:
    bucket, path = moto_server.create_bucket(), tmp_path / "file"
    path.write_bytes(LARGE)
    async with relayed(moto_server.endpoint) as relay, opened(through(relay, moto_server.place(bucket))) as blobs:
        relay.cut("up", PART_BYTES + CHUNK_BYTES, times=1)
        blob = await blobs.put_file(path)
        assert relay.reached.is_set()
        assert await read(blobs, blob.sha256) == LARGE


async def test_an_upload_whose_lines_break_leaves_nothing(
    moto_server: S3Server, opened: Opener, tmp_path: Path
) -> None:
    bucket, path = moto_server.create_bucket(), tmp_path / "file"
    path.write_bytes(LARGE)
    async with relayed(moto_server.endpoint) as relay, opened(through(relay, moto_server.place(bucket))) as blobs:
        relay.cut("up", PART_BYTES + CHUNK_BYTES, times=5)  # over all attempts, not over all those to give up
        with pytest.raises(errors.Unavailable) as caught:
            await blobs.put_file(path)
        assert (caught.value.code, caught.value.retry_after_s) == ("blobs_unavailable", 1)
        assert (keys(moto_server, bucket), uploads(moto_server, bucket)) == ([], [])


async def test_an_answer_that_breaks_off_is_an_error_and_not_a_short_blob(
    moto_server: S3Server, opened: Opener
) -> None:
    place = moto_server.place(moto_server.create_bucket())
    async with relayed(moto_server.endpoint) as relay, opened(through(relay, place)) as blobs:
        blob = await blobs.put_bytes(b"x" * (3 * CHUNK_BYTES))
        relay.cut("down", 2 * CHUNK_BYTES, times=1)
        with pytest.raises(errors.Unavailable) as caught:
            await read(blobs, blob.sha256)
        assert caught.value.code == "blobs_unavailable"
        assert await read(blobs, blob.sha256) == b"x" * (3 * CHUNK_BYTES)


async def test_what_a_killed_writer_left_is_given_up(s3_server: S3Server, opened: Opener) -> None:
    bucket = s3_server.create_bucket()
    s3_server.client.create_multipart_upload(Bucket=bucket, Key=f"yard/{ABC[:2]}/{ABC[2:]}")
    s3_server.client.create_multipart_upload(Bucket=bucket, Key="of-somebody-else")
    async with opened(s3_server.place(bucket, "yard")) as blobs:
        assert await blobs.remove_unfinished(min_age_s=0) == 1
    assert [upload["Key"] for upload in uploads(s3_server, bucket)] == ["of-somebody-else"]


async def test_there_is_nothing_to_give_up_before_the_first_upload(own_s3: S3Server, opened: Opener) -> None:
    async with opened(own_s3.place(own_s3.create_bucket())) as blobs:
        assert await blobs.remove_unfinished(min_age_s=0) == 0


async def test_what_a_writer_has_just_begun_is_left_to_it(rclone_server: S3Server, opened: Opener) -> None:
    bucket = rclone_server.create_bucket()  # moto dates all uploads alike
    rclone_server.client.create_multipart_upload(Bucket=bucket, Key=f"yard/{ABC[:2]}/{ABC[2:]}")
    async with opened(rclone_server.place(bucket, "yard")) as blobs:
        assert await blobs.remove_unfinished(min_age_s=3600) == 0
        assert await blobs.remove_unfinished(min_age_s=0) == 1


async def test_damage_is_found_before_the_last_piece_is_given_and_mended_by_another_put(
    s3_server: S3Server, opened: Opener
) -> None:
    bucket, content, given = s3_server.create_bucket(), b"x" * (CHUNK_BYTES + 10), bytearray()
    async with opened(s3_server.place(bucket)) as blobs:
        blob = await blobs.put_bytes(content)
        s3_server.client.put_object(Bucket=bucket, Key=keys(s3_server, bucket)[0], Body=content[:-1] + b"y")
        with pytest.raises(errors.TrainyardError) as caught:
            await read_into(given, blobs, blob.sha256)
        assert (caught.value.code, len(given)) == ("blob_corrupt", CHUNK_BYTES)
        await blobs.put_bytes(content)
        assert await read(blobs, blob.sha256) == content


async def test_yards_with_prefixes_share_a_bucket_and_see_nothing_of_each_other(
    s3_server: S3Server, opened: Opener
) -> None:
    bucket = s3_server.create_bucket()
    s3_server.client.put_object(Bucket=bucket, Key="a/notes.txt", Body=b"not ours")
    s3_server.client.put_object(Bucket=bucket, Key=f"ab/{ABC[:2]}/{ABC[2:]}", Body=b"abc")
    async with opened(s3_server.place(bucket, "a")) as blobs, opened(s3_server.place(bucket, "ab")) as other:
        assert [blob async for blob in blobs.stored(min_age_s=0)] == []
        assert not await blobs.exists(ABC)
        assert [blob.sha256 async for blob in other.stored(min_age_s=0)] == [ABC]


async def test_a_listing_goes_on_over_its_pages(rclone_server: S3Server, opened: Opener) -> None:
    bucket, names = rclone_server.create_bucket(), {f"{number:064x}" for number in range(1001)}
    (rclone_server.files / bucket / "00").mkdir()
    for name in names:
        (rclone_server.files / bucket / "00" / name[2:]).write_bytes(b"")
    async with opened(rclone_server.place(bucket)) as blobs:
        listed = [blob.sha256 async for blob in blobs.stored(min_age_s=0)]
    assert (len(listed), set(listed)) == (1001, names)


async def test_keys_come_from_the_environment_where_the_settings_have_none(
    rclone_server: S3Server, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = rclone_server.place(rclone_server.create_bucket())
    assert place.keys is not None
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", place.keys[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", place.keys[1])
    async with opened(dataclasses.replace(place, keys=None)) as blobs:
        assert await blobs.put_bytes(b"abc") == (await blobs.put_bytes(b"abc"))
        assert await read(blobs, ABC) == b"abc"
