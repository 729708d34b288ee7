"""One suite for every BlobStore."""

import asyncio
import hashlib
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.services.s3 import S3Server
from trainyard.core import errors
from trainyard.core.blobs import BlobStore, DirectoryBlobs, MemoryBlobs, begun
from trainyard.core.blobs.base import CHUNK_BYTES
from trainyard.core.blobs.s3 import S3Blobs

# SHA-256 of b"abc", FIPS 180-2, appendix B.1
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@pytest.fixture(params=["directory", "memory", "moto", "rclone"])
async def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BlobStore]:
    made = _made(request, tmp_path)
    yield made
    await made.aclose()


def _made(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    if request.param == "directory":
        return DirectoryBlobs(tmp_path / "blobs")
    if request.param == "memory":
        return MemoryBlobs()
    server: S3Server = request.getfixturevalue(f"{request.param}_server")
    return S3Blobs(server.place(server.create_bucket(), "pre/fix"), tmp_path / "spool")


async def _read(blobs: BlobStore, sha256: str) -> bytes:
    pieces: list[bytes] = []
    await _read_into(pieces, blobs, sha256)
    return b"".join(pieces)


async def _read_into(pieces: list[bytes], blobs: BlobStore, sha256: str) -> None:
    async for piece in blobs.open(sha256):
        pieces.append(piece)


async def test_bytes_are_found_under_their_hash(blobs: BlobStore) -> None:
    blob = await blobs.put_bytes(b"abc")
    assert (blob.sha256, blob.size_bytes) == (ABC, 3)
    assert await blobs.exists(ABC)
    assert await _read(blobs, ABC) == b"abc"


async def test_a_file_is_found_under_its_hash_and_stays(blobs: BlobStore, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert await blobs.put_file(path) == await blobs.put_bytes(b"abc")
    assert path.read_bytes() == b"abc"
    path.unlink()
    assert await _read(blobs, ABC) == b"abc"


async def test_what_a_symbolic_link_leads_to_is_stored(blobs: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("file")
    await blobs.put_file(tmp_path / "link")
    (tmp_path / "file").unlink()
    assert await _read(blobs, ABC) == b"abc"


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=2000))
async def test_whatever_goes_in_comes_out(blobs: BlobStore, content: bytes) -> None:
    blob = await blobs.put_bytes(content)
    assert blob.sha256 == hashlib.sha256(content).hexdigest()
    assert await _read(blobs, blob.sha256) == content


async def test_a_large_blob_comes_in_pieces(blobs: BlobStore) -> None:
    content = bytes(range(256)) * (CHUNK_BYTES // 128)  # two whole pieces
    blob = await blobs.put_bytes(content + b"rest")
    pieces = [piece async for piece in blobs.open(blob.sha256)]
    assert [len(piece) for piece in pieces] == [CHUNK_BYTES, CHUNK_BYTES, 4]
    assert b"".join(pieces) == content + b"rest"


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _broken(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    raise ConnectionResetError


async def _stored(blobs: BlobStore, min_age_s: float) -> list[tuple[str, int]]:
    return sorted([(blob.sha256, blob.size_bytes) async for blob in blobs.stored(min_age_s=min_age_s)])


@pytest.mark.parametrize("pieces", [(b"abc",), (b"a", b"", b"bc"), (b"", b"abc")])
async def test_a_stream_is_found_under_the_hash_of_all_its_pieces(blobs: BlobStore, pieces: tuple[bytes, ...]) -> None:
    blob = await blobs.put_stream(_pieces(*pieces))
    assert (blob.sha256, blob.size_bytes) == (ABC, 3)
    assert await _read(blobs, ABC) == b"abc"


async def test_an_empty_stream_is_an_empty_blob(blobs: BlobStore) -> None:
    blob = await blobs.put_stream(_pieces())
    assert blob == await blobs.put_bytes(b"")
    assert await _read(blobs, blob.sha256) == b""


async def test_a_stream_that_breaks_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError):
        await blobs.put_stream(_broken(b"abc"))
    assert await _stored(blobs, 0) == []
    assert _files(tmp_path) == []
    assert not any(".put-" in name for name in _everything(tmp_path))


async def test_blobs_are_listed_once_they_are_old_enough(blobs: BlobStore, tmp_path: Path) -> None:
    old = tmp_path / "file"
    old.write_bytes(b"abc")
    os.utime(old, (0, 0))  # the age of the content does not count
    await blobs.put_file(old)
    empty = await blobs.put_bytes(b"")
    assert await _stored(blobs, 0) == sorted([(ABC, 3), (empty.sha256, 0)])
    assert await _stored(blobs, 3600) == []
    await blobs.delete(ABC)
    assert await _stored(blobs, 0) == [(empty.sha256, 0)]


async def test_what_is_deleted_is_gone(blobs: BlobStore) -> None:
    await blobs.put_bytes(b"abc")
    assert await blobs.delete(ABC)
    assert not await blobs.delete(ABC)
    assert not await blobs.exists(ABC)
    with pytest.raises(errors.NotFound) as caught:
        await _read(blobs, ABC)
    assert caught.value.code == "blob_not_found"


@pytest.mark.parametrize("name", ["", "abc", "../" + "a" * 61, "A" * 64, "a" * 65, "a" * 63 + "/"])
async def test_only_a_hash_is_an_address(blobs: BlobStore, name: str) -> None:
    for attempt in (blobs.exists, blobs.delete):
        with pytest.raises(errors.InvalidRequest):
            await attempt(name)
    with pytest.raises(errors.InvalidRequest):
        await _read(blobs, name)


async def test_damage_is_found_before_the_last_piece_is_given(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    content = b"x" * (CHUNK_BYTES + 10)
    blob = await blobs.put_bytes(content)
    (tmp_path / blob.sha256[:2] / blob.sha256[2:]).write_bytes(content[:-1] + b"y")
    given: list[bytes] = []
    with pytest.raises(errors.TrainyardError) as caught:
        await _read_into(given, blobs, blob.sha256)
    assert caught.value.code == "blob_corrupt"
    assert sum(map(len, given)) == CHUNK_BYTES


async def test_a_file_of_the_same_file_system_is_linked_and_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    await DirectoryBlobs(tmp_path / "blobs").put_file(path)
    assert _links(path) == 2
    assert path.samefile(tmp_path / "blobs" / ABC[:2] / ABC[2:])


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A file with the content abc on another file system than tmp_path."""
    shared_memory = Path("/dev/shm")  # noqa: S108 - another file system on every Linux
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    path = shared_memory / f"trainyard-{tmp_path.name}"
    path.write_bytes(b"abc")
    yield path
    path.unlink()


async def test_a_file_of_another_file_system_is_copied(tmp_path: Path, elsewhere: Path) -> None:
    assert (await DirectoryBlobs(tmp_path).put_file(elsewhere)).sha256 == ABC
    assert _links(elsewhere) == 1


def _links(path: Path) -> int:
    return path.stat().st_nlink


def _everything(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in root.rglob("*")]


def _files(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]


async def test_a_put_leaves_nothing_but_the_blob_even_when_it_fails(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    for _ in range(2):
        await blobs.put_bytes(b"abc")
    with pytest.raises(FileNotFoundError):
        await blobs.put_file(tmp_path / "absent")
    assert _files(tmp_path) == [f"{ABC[:2]}/{ABC[2:]}"]


def _names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def test_what_a_killed_writer_left_is_removed_and_blobs_stay(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    assert await blobs.remove_unfinished(min_age_s=0) == 0
    code = (
        "import os, sys; from pathlib import Path; from trainyard.core.blobs import DirectoryBlobs;"
        "DirectoryBlobs(Path(sys.argv[1]))._put(lambda file: (file.write_bytes(b'half'), os._exit(9)))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(tmp_path))
    assert await process.wait() == 9
    blob = await blobs.put_bytes(b"abc")
    assert len(_names(tmp_path)) == 2
    assert await blobs.remove_unfinished(min_age_s=3600) == 0
    assert await blobs.remove_unfinished(min_age_s=0) == 1
    assert _names(tmp_path) == [blob.sha256[:2]]


@pytest.mark.parametrize("pieces", [(), (b"abc",), (b"a", b"b", b"c")])
async def test_a_stream_that_has_begun_is_the_same_stream(pieces: tuple[bytes, ...]) -> None:
    assert [piece async for piece in await begun(_pieces(*pieces))] == list(pieces)


async def test_what_goes_wrong_before_the_first_piece_is_told_to_whoever_begins(blobs: BlobStore) -> None:
    with pytest.raises(errors.NotFound):
        await begun(blobs.open(ABC))
