"""S3 gone, frozen, with other keys or without the bucket: every call says so in time, and the next works again."""

import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.services.s3 import S3Server
from trainyard.core import errors
from trainyard.core.blobs.s3 import S3Blobs
from trainyard.core.blobs.s3_client import Place

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # SHA-256 of b"abc"


async def _pieces() -> AsyncIterator[bytes]:
    yield b"abc"


async def _drained(pieces: AsyncIterator[object]) -> None:
    async for _ in pieces:
        pass


CALLS: list[tuple[str, Callable[[S3Blobs], Awaitable[object]]]] = [
    ("put_bytes", lambda blobs: blobs.put_bytes(b"abc")),
    ("put_stream", lambda blobs: blobs.put_stream(_pieces())),
    ("put_file", lambda blobs: blobs.put_file(Path(__file__))),
    ("open", lambda blobs: _drained(blobs.open(ABC))),
    ("exists", lambda blobs: blobs.exists(ABC)),
    ("delete", lambda blobs: blobs.delete(ABC)),
    ("stored", lambda blobs: _drained(blobs.stored(min_age_s=0))),
    ("remove_unfinished", lambda blobs: blobs.remove_unfinished(min_age_s=0)),
    ("ping", lambda blobs: blobs.ping()),
]


async def refused(blobs: S3Blobs, within_s: float) -> list[str]:
    """Make every call; returns the codes of their errors."""
    codes: list[str] = []
    for name, call in CALLS:
        start = time.monotonic()
        with pytest.raises(errors.Unavailable) as caught:
            await call(blobs)
        assert time.monotonic() - start < within_s, name
        codes.append(caught.value.code)
    return codes


async def test_a_server_that_is_gone_is_told_at_once_and_found_again(own_s3: S3Server, tmp_path: Path) -> None:
    blobs = S3Blobs(own_s3.place(own_s3.create_bucket()), tmp_path)
    await blobs.put_bytes(b"abc")
    own_s3.stop()
    assert set(await refused(blobs, within_s=5)) == {"blobs_unavailable"}
    own_s3.start()
    await blobs.ping()
    assert await blobs.exists(ABC)
    await blobs.aclose()


async def test_a_server_that_is_frozen_is_told_after_two_waits(own_s3: S3Server, tmp_path: Path) -> None:
    blobs = S3Blobs(own_s3.place(own_s3.create_bucket(), timeout_s=0.2), tmp_path)
    await blobs.put_bytes(b"abc")
    with own_s3.frozen():
        assert set(await refused(blobs, within_s=5)) == {"blobs_unavailable"}
    assert b"".join([piece async for piece in blobs.open(ABC)]) == b"abc"
    await blobs.aclose()


async def test_a_wrong_secret_is_told_apart(rclone_server: S3Server, tmp_path: Path) -> None:
    blobs = S3Blobs(rclone_server.place(rclone_server.create_bucket(), secret="another"), tmp_path)
    assert set(await refused(blobs, within_s=5)) == {"blobs_refused"}
    await blobs.aclose()


async def test_a_bucket_that_is_not_there_is_told_apart(s3_server: S3Server, tmp_path: Path) -> None:
    blobs = S3Blobs(s3_server.place("nowhere"), tmp_path)
    assert set(await refused(blobs, within_s=5)) == {"blobs_bucket_missing"}
    await blobs.aclose()


async def test_no_keys_anywhere_are_told_as_refused(
    rclone_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "absent"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    place = Place(bucket="any", endpoint=rclone_server.endpoint, region="us-east-1", is_path_style=True)
    blobs = S3Blobs(place, tmp_path)
    with pytest.raises(errors.Unavailable) as caught:
        await blobs.ping()
    assert caught.value.code == "blobs_refused"
    await blobs.aclose()


async def test_errors_hold_no_address_and_the_log_no_secret(
    own_s3: S3Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = own_s3.place("nowhere", secret="wrong-and-secret")
    blobs = S3Blobs(place, tmp_path)
    with pytest.raises(errors.Unavailable) as caught:
        await blobs.put_bytes(b"abc")
    await blobs.aclose()
    assert "SignatureDoesNotMatch" in caplog.text
    assert "wrong-and-secret" not in caplog.text
    assert own_s3.endpoint not in caught.value.message


def test_a_client_that_is_not_installed_is_named_with_its_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['aiobotocore'] = None\n"
        "from pathlib import Path\n"
        "from trainyard.core import errors\n"
        "from trainyard.core.blobs.s3 import S3Blobs; from trainyard.core.blobs.s3_client import Place\n"
        "try:\n    S3Blobs(Place('bucket'), Path())\n"
        "except errors.ConfigError as error:\n    print(error.param, error.message)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.startswith("blobs.url ")
    assert "pip install 'trainyard[s3]'" in told.stdout


def test_nothing_is_imported_for_a_store_in_a_directory(tmp_path: Path) -> None:
    code = (
        "import sys; from trainyard.core import opening, settings;"
        f"opening.blobs(settings.Settings(data_dir={str(tmp_path)!r}));"
        "print([name for name in sys.modules if 'botocore' in name])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
