"""Where blobs lie is read from the settings, and options that would do nothing are refused."""

import asyncio
from pathlib import Path

import pytest

from trainyard.core import errors, opening, settings
from trainyard.core.blobs import DirectoryBlobs
from trainyard.core.blobs.s3 import S3Blobs

S3 = {"blobs.url": "s3://a-bucket/some/yard"}


def test_blobs_lie_in_the_data_directory_unless_a_bucket_is_named(tmp_path: Path) -> None:
    assert isinstance(opening.blobs(settings.load({"data_dir": tmp_path}, environ={})), DirectoryBlobs)
    assert isinstance(opening.blobs(settings.load({"data_dir": tmp_path, **S3}, environ={})), S3Blobs)


def test_what_a_capability_collects_lies_apart(tmp_path: Path) -> None:
    effective = settings.load({"data_dir": tmp_path}, environ={})
    apart = opening.blobs(effective, "sandbox")

    async def put() -> list[str]:
        await opening.blobs(effective).put_bytes(b"of training")
        blob = await apart.put_bytes(b"of the sandbox")
        assert [one async for one in apart.stored(min_age_s=0)] == [blob]
        return [blob.sha256]

    (sha256,) = asyncio.run(put())
    assert (tmp_path / "blobs" / "sandbox" / sha256[:2] / sha256[2:]).read_bytes() == b"of the sandbox"


@pytest.mark.parametrize(
    "url", ["s3://abc", "s3://abc/", "s3://my.bucket-1", "s3://abc/a/b_c", "s3://abc/it's(ok)*!/1.0"]
)
def test_a_bucket_with_or_without_a_prefix_is_a_place(url: str) -> None:
    assert settings.load({"blobs.url": url}, environ={}).blobs.url == url


@pytest.mark.parametrize(
    ("flags", "param", "says"),
    [
        ({"blobs.url": "bucket"}, "blobs.url", "write s3://bucket or s3://bucket/prefix"),
        ({"blobs.url": "s3://"}, "blobs.url", "write s3://bucket"),
        ({"blobs.url": "s3://ab"}, "blobs.url", "write s3://bucket"),
        ({"blobs.url": "s3://Bucket"}, "blobs.url", "write s3://bucket"),
        ({"blobs.url": "s3://bucket//a"}, "blobs.url", "write s3://bucket"),
        ({"blobs.url": "s3://bucket/a b"}, "blobs.url", "write s3://bucket"),
        ({"blobs.url": "s3://key:secret@bucket"}, "blobs.url", "write s3://bucket"),
        ({"blobs.url": "https://host/bucket"}, "blobs.url", "write s3://bucket"),
        ({"blobs.url": "s3://bucket\n"}, "blobs.url", "write s3://bucket"),
        ({**S3, "blobs.endpoint": "minio:9000"}, "blobs.endpoint", "write https://host:port"),
        ({**S3, "blobs.endpoint": "https://"}, "blobs.endpoint", "write https://host:port"),
        ({**S3, "blobs.access_key_id": "id"}, "blobs.secret_access_key", "belong together"),
        ({**S3, "blobs.secret_access_key": "secret"}, "blobs.access_key_id", "belong together"),
        ({**S3, "blobs.timeout_s": 0}, "blobs.timeout_s", "greater than 0"),
        ({"blobs.endpoint": "https://minio"}, "blobs.endpoint", "set blobs.url too"),
        ({"blobs.region": "eu-central-1"}, "blobs.region", "set blobs.url too"),
        ({"blobs.path_style": False}, "blobs.path_style", "set blobs.url too"),
    ],
)
def test_what_cannot_be_used_is_refused_with_what_would_be_right(
    flags: dict[str, object], param: str, says: str
) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        settings.load(flags, environ={})
    assert caught.value.param == param
    assert says in caught.value.message


def test_the_secret_is_shown_nowhere() -> None:
    flags = {**S3, "blobs.access_key_id": "id", "blobs.secret_access_key": "very-secret"}
    assert "very-secret" not in repr(settings.load(flags, environ={}))
    assert "very-secret" not in " ".join(str(origin.shown) for origin in settings.provenance(flags, environ={}))
