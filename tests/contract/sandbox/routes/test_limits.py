"""Limits as a caller of the sandbox sees them."""

from typing import Any

import pytest
from sqlalchemy import text

from tests.contract.sandbox.routes.conftest import Open

PY: dict[str, Any] = {"lang": "py", "code": "print(1)"}


def test_the_429_is_the_one_that_librechat_reads_and_the_headers_are_those_of_all_routes(open_yard: Open) -> None:
    with open_yard(limits={"requests": 2}) as yard:
        first = yard.client.post("/exec", json=PY)
        assert (first.headers["x-ratelimit-limit-requests"], first.headers["x-ratelimit-remaining-requests"]) == (
            "2",
            "1",
        )
        assert first.headers["ratelimit"].startswith('"requests";r=1')
        assert yard.client.post("/exec", json={**PY, "stream": True}).headers["x-ratelimit-remaining-requests"] == "0"
        answer = yard.client.post("/exec", json=PY)
        body = answer.json()
        assert (answer.status_code, body["error"], body["error_type"]) == (429, "rate_limited", "rate_limited")
        assert 0 < body["retry_after_seconds"] <= 60
        assert answer.headers["retry-after"] == str(body["retry_after_seconds"])
        assert answer.headers["x-ratelimit-remaining-requests"] == "0"


def test_uploads_count_as_requests_too(open_yard: Open) -> None:
    with open_yard(limits={"requests": 1}) as yard:
        before = yard.stored()
        assert yard.client.post("/upload", files={"file": ("a", b"1")}).status_code == 200
        assert yard.client.post("/upload", files={"file": ("b", b"2")}).status_code == 429
        assert yard.stored()["files"] == before["files"] + 1


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/sessions/{s}/variables"), ("GET", "/state/{s}"), ("POST", "/state/{s}")]
)
def test_what_is_done_with_variables_counts_as_a_run(open_yard: Open, method: str, path: str) -> None:
    with open_yard(limits={"requests": 2}) as yard:
        session = yard.client.post("/exec", json={**PY, "code": "x = 1"}).json()["session_id"]
        raw = yard.client.get(f"/state/{session}").content
        answer = yard.client.request(method, path.format(s=session), content=raw if method == "POST" else None)
        assert (answer.status_code, answer.json()["error"]) == (429, "rate_limited")
        assert answer.headers["retry-after"] == str(answer.json()["retry_after_seconds"])
        assert yard.client.get(f"/state/{session}/info").status_code == 200


def test_downloads_count_as_requests_and_looking_at_a_file_does_not(open_yard: Open) -> None:
    with open_yard(limits={"requests": 2}) as yard:
        done = yard.client.post("/upload", files={"file": ("a", b"123")}).json()
        session, file = done["session_id"], done["files"][0]["fileId"]
        path = f"/download/{session}/{file}"
        for _ in range(3):
            assert yard.client.head(path).status_code == 200
            assert yard.client.get(f"/sessions/{session}/objects/{file}").status_code == 200
        assert yard.client.get(path).content == b"123"
        answer = yard.client.get(path)
        assert (answer.status_code, answer.json()["error"]) == (429, "rate_limited")
        assert int(answer.headers["retry-after"]) > 0
        etag = yard.client.head(path).headers["etag"]
        assert yard.client.get(path, headers={"If-None-Match": etag}).status_code == 304
        assert yard.client.get(path, headers={"Range": "bytes=9-"}).status_code == 416


@pytest.mark.parametrize(("asked", "bytes_out"), [(None, 10_000), ("bytes=10-19", 10), ("bytes=-1", 1)])
def test_a_download_is_in_the_ledger_with_the_bytes_that_were_sent(
    open_yard: Open, asked: str | None, bytes_out: int
) -> None:
    with open_yard() as yard:
        done = yard.client.post("/upload", files={"file": ("a", b"x" * 10_000)}).json()
        path = f"/download/{done['session_id']}/{done['files'][0]['fileId']}"
        answer = yard.client.get(path, headers={} if asked is None else {"Range": asked})
        assert len(answer.content) == bytes_out
        with yard.database.read() as connection:
            rows = connection.execute(
                text(
                    "select request_id, charged_tokens, owner, bytes_out from core_usage "
                    "join core_work using (entry_id) where route = '/download/{session_id}/{file_id}'"
                )
            ).all()
        assert rows == [(answer.headers["x-request-id"], 0, "anna", bytes_out)]


@pytest.mark.parametrize("path", ["/languages", "/sessions"])
def test_looking_is_not_limited(open_yard: Open, path: str) -> None:
    with open_yard(limits={"requests": 1}) as yard:
        assert [yard.client.get(path).status_code for _ in range(3)] == [200, 200, 200]


def test_a_tenant_whose_room_is_full_is_told_so(open_yard: Open) -> None:
    with open_yard(sandbox={"limits": {"stored_bytes": 1 << 20, "file_bytes": 1 << 20}}) as yard:
        assert yard.client.post("/upload", files={"file": ("a", b"x" * (1 << 20))}).status_code == 200
        before = yard.stored()
        answer = yard.client.post("/upload", files={"file": ("b", b"y")})
        assert (answer.status_code, answer.json()["code"]) == (413, "storage_full")
        assert answer.json()["error_type"] == "resource_exhausted"
        yard.becomes(before)
