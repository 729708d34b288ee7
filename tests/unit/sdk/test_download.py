import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.sdk.wire import Wire, asynchronous, blocking
from trainyard.sdk import AsyncRun, NotFoundError, Run, ServerError

FILES = {"adapter_config.json": b"{}", "deep/adapter_model.safetensors": b"weights" * 1000}


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"run_1-step_2/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def artifact(files: dict[str, bytes]) -> dict[str, Any]:
    facts = {n: {"sha256": hashlib.sha256(c).hexdigest(), "size": len(c)} for n, c in files.items()}
    return {"id": "art_1", "download_url": "/runs/run_1/artifacts/art_1/download?signature=s", "manifest": facts}


def test_a_download_lays_out_the_files_of_the_manifest(tmp_path: Path) -> None:
    wire = Wire(httpx.Response(200, content=archive(FILES)))
    with blocking(wire) as client:
        directory = Run(client, "run_1").download(artifact(FILES), tmp_path / "new")
    found = {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}
    assert found == FILES
    assert str(wire.requests[0].url) == "http://yard.test/runs/run_1/artifacts/art_1/download?signature=s"


async def test_an_async_download_does_too(tmp_path: Path) -> None:
    async with asynchronous(Wire(httpx.Response(200, content=archive(FILES)))) as client:
        directory = await AsyncRun(client, "run_1").download(artifact(FILES), str(tmp_path))
    assert (directory / "adapter_config.json").read_bytes() == b"{}"


CHANGED = {**FILES, "adapter_config.json": b"[]"}
MISSING = {"adapter_config.json": b"{}"}
MORE = {**FILES, "more.txt": b""}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive(CHANGED), "adapter_config.json has SHA-256 .*, its manifest says"),
        (archive(MISSING), "does not hold what the manifest lists: deep/adapter_model.safetensors"),
        (archive(MORE), "does not hold what the manifest lists: more.txt"),
        (archive(FILES)[:2000], "not a whole tar file"),
        (b"no tar at all", "not a whole tar file"),
    ],
)
def test_a_download_that_is_not_right_leaves_nothing(tmp_path: Path, content: bytes, message: str) -> None:
    with blocking(Wire(httpx.Response(200, content=content))) as client, pytest.raises(ServerError, match=message):
        client.download(artifact(FILES), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up"])
def test_a_manifest_cannot_reach_outside(tmp_path: Path, name: str) -> None:
    evil = {name: b"x"}
    wire = Wire(httpx.Response(200, content=archive(evil)))
    with blocking(wire) as client, pytest.raises(ServerError, match="outside its directory"):
        client.download(artifact(evil), tmp_path)


def test_a_refused_download_raises(tmp_path: Path) -> None:
    gone = httpx.Response(404, json={"error": "artifact gone"})
    with blocking(Wire(gone)) as client, pytest.raises(NotFoundError, match="artifact gone"):
        client.download(artifact(FILES), tmp_path)


async def test_a_refused_async_download_raises(tmp_path: Path) -> None:
    async with asynchronous(Wire(httpx.Response(404, json={"error": "artifact gone"}))) as client:
        with pytest.raises(NotFoundError, match="artifact gone"):
            await client.download(artifact(FILES), tmp_path)
