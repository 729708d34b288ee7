"""Uploading, listing, downloading, deleting."""

import urllib.parse
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.integration.sandbox.guide.conftest import execute, unique, upload

NAMES = ["plain.txt", "with space.txt", "ünïcödé 文件.csv", ".hidden", "a.b.c.tar.gz", "folder/below.txt", "x" * 250]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:20])
async def test_a_file_comes_back_under_its_name(api_client: httpx.AsyncClient, name: str) -> None:
    stored = await upload(api_client, name, b"content")
    assert (stored["message"], stored["files"][0]["filename"]) == ("success", name)
    session, file = stored["session_id"], stored["files"][0]["fileId"]
    fetched = await api_client.get(f"/download/{session}/{file}")
    assert (fetched.status_code, fetched.content) == (200, b"content")
    disposition = fetched.headers["content-disposition"]
    assert urllib.parse.quote(name.rpartition("/")[2], safe="") in disposition or name in disposition


@pytest.mark.parametrize("name", ["../up.txt", "/etc/passwd", "a/../../b", "x" * 300, "a//b", ""])
async def test_a_name_that_leads_out_or_is_too_long_is_refused(api_client: httpx.AsyncClient, name: str) -> None:
    response = await api_client.post("/upload", files={"files": (name, b"content")})
    assert 400 <= response.status_code < 500


async def test_files_are_listed_in_three_ways(api_client: httpx.AsyncClient) -> None:
    stored = await upload(api_client, "data.csv", b"1,2")
    session, file = stored["session_id"], stored["files"][0]["fileId"]
    [simple] = (await api_client.get(f"/files/{session}?detail=simple")).json()
    [summary] = (await api_client.get(f"/files/{session}?detail=summary")).json()
    [full] = (await api_client.get(f"/files/{session}?detail=full")).json()
    assert (simple["id"], simple["path"]) == (file, "data.csv")
    assert summary["name"].startswith(f"{session}/{file}")
    assert datetime.now(UTC) - datetime.fromisoformat(summary["lastModified"]) < timedelta(hours=1)
    assert (full["size"], full["metadata"]["original-filename"]) == (3, "data.csv")


async def test_a_deleted_file_is_gone(api_client: httpx.AsyncClient) -> None:
    stored = await upload(api_client, "data.csv", b"1,2")
    path = f"{stored['session_id']}/{stored['files'][0]['fileId']}"
    assert (await api_client.delete(f"/files/{path}")).status_code in (200, 204)
    assert (await api_client.get(f"/download/{path}")).status_code == 404
    assert (await api_client.delete(f"/files/{path}")).status_code == 404


async def test_several_files_go_in_one_request(api_client: httpx.AsyncClient) -> None:
    parts = [("files", (f"{number}.txt", str(number).encode())) for number in range(5)]
    stored = (await api_client.post("/upload", files=parts, data={"entity_id": unique()})).json()
    assert [file["filename"] for file in stored["files"]] == [f"{number}.txt" for number in range(5)]


async def test_a_batch_tells_what_became_of_each(api_client: httpx.AsyncClient) -> None:
    parts = [("files", ("good.txt", b"1")), ("files", ("../bad.txt", b"2"))]
    told = (await api_client.post("/upload/batch", files=parts)).json()
    assert (told["message"], told["succeeded"], told["failed"]) == ("partial_success", 1, 1)
    assert [file["status"] for file in told["files"]] == ["success", "error"]


async def test_an_upload_without_a_file_is_refused(api_client: httpx.AsyncClient) -> None:
    assert (await api_client.post("/upload", data={"entity_id": "x"})).status_code in (400, 415, 422)


async def test_a_part_of_a_file_can_be_fetched(api_client: httpx.AsyncClient) -> None:
    made = await execute(api_client, "open('digits', 'w').write('0123456789')")
    [file] = made["files"]
    fetched = await api_client.get(f"/download/{made['session_id']}/{file['id']}", headers={"Range": "bytes=2-4"})
    assert (fetched.status_code, fetched.content) == (206, b"234")
