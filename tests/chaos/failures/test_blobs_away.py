"""S3 goes, freezes, changes its keys, loses its bucket: what needs a blob says so in time, the rest does not notice."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.chaos.failures import callers, table, yard
from tests.chaos.failures.table import Row
from tests.services import s3
from trainyard import Client
from trainyard.sdk import Run, ServerError
from trainyard.sdk.local_server import LocalServer
from trainyard.sdk.sandbox import Session

pytestmark = pytest.mark.timeout(180)
TIMEOUT_S = 0.5


@dataclass
class Place:
    """A server over a bucket that may fail, with a run that was saved there and a session that has a file there."""

    server: LocalServer
    s3: s3.S3Server
    bucket: str
    client: Client
    run: Run
    session: Session
    file_id: str


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with s3.rclone() as store:
        bucket = store.create_bucket()
        environment = {f"TRAINYARD_BLOBS__{name.upper()}": value for name, value in store.settings(bucket).items()}
        environment["TRAINYARD_SANDBOX__ALLOW_WEAKER"] = "true"
        environment["TRAINYARD_BLOBS__TIMEOUT_S"] = str(TIMEOUT_S)
        directory = tmp_path_factory.mktemp("blobs")
        with (
            LocalServer(directory / "data", environment=environment) as server,
            Client(server.key, server.url) as client,
        ):
            run = yard.trained(client, steps=1)
            run.save_state(mode="adapter")
            assert not any((directory / "data" / "blobs").glob("*/*"))  # the bucket has them
            session = client.sandbox.session()
            (file,) = session.upload(Path(__file__)).files
            yield Place(server, store, bucket, client, run, session, file["fileId"])


def outage(row: Row, place: Place, tmp_path: Path, fails: AbstractContextManager[None], within_s: float) -> None:
    (saved, *_) = place.run.list_artifacts()
    before = place.run.download(saved, tmp_path / "before").stat().st_size
    with fails, yard.bystander(place.client) as wrong:
        for act in (
            lambda: place.run.save_state(mode="adapter"),
            lambda: place.run.download(saved, tmp_path / "meanwhile"),
            lambda: place.session.upload(Path(__file__)),
            lambda: place.session.download(place.file_id, tmp_path / "meanwhile.py"),
        ):
            begun_s = time.monotonic()
            with pytest.raises(ServerError) as refused:
                act()
            assert time.monotonic() - begun_s < within_s
            assert (refused.value.status_code, refused.value.code) == (row.statuses[0], row.codes[0])
        assert callers.readyz(place.server.url) == (row.statuses[1], {"blobs"})
        place.run.forward_backward(yard.LESSON)
        place.run.optim_step()
        assert place.client.sandbox.run("print(6 * 7)").stdout == "42\n"
    assert wrong == []
    yard.until(lambda: callers.readyz(place.server.url) == (200, set()), timeout_s=15)
    assert place.run.download(saved, tmp_path / "after").stat().st_size == before
    assert place.session.download(place.file_id, tmp_path / "after.py").read_bytes() == Path(__file__).read_bytes()
    assert place.run.save_state(mode="adapter").step == place.run.get_status().current_step


@contextmanager
def gone(place: Place) -> Iterator[None]:
    place.s3.stop()
    try:
        yield
    finally:
        place.s3.start()


@contextmanager
def under_other_keys(place: Place) -> Iterator[None]:
    place.s3.stop()
    place.s3.start(secret="rotated-without-telling-us")
    try:
        yield
    finally:
        place.s3.stop()
        place.s3.start()


@contextmanager
def without_bucket(place: Place) -> Iterator[None]:
    here, elsewhere = place.s3.files / place.bucket, place.s3.files.parent / "elsewhere"
    place.s3.stop()
    here.rename(elsewhere)
    place.s3.start()
    try:
        yield
    finally:
        place.s3.stop()
        elsewhere.rename(here)
        place.s3.start()


@table.shows("S3 gone")
def test_s3_gone(row: Row, place: Place, tmp_path: Path) -> None:
    outage(row, place, tmp_path, gone(place), within_s=10)


@table.shows("S3 frozen")
def test_s3_frozen(row: Row, place: Place, tmp_path: Path) -> None:
    outage(row, place, tmp_path, place.s3.frozen(), within_s=2 * TIMEOUT_S + 10)


@table.shows("S3 refuses the keys")
def test_s3_refuses_the_keys(row: Row, place: Place, tmp_path: Path) -> None:
    outage(row, place, tmp_path, under_other_keys(place), within_s=10)


@table.shows("bucket missing")
def test_the_bucket_is_missing(row: Row, place: Place, tmp_path: Path) -> None:
    outage(row, place, tmp_path, without_bucket(place), within_s=10)
