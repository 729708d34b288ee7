"""Limits as a caller of the sandbox sees them."""

from typing import Any

import pytest

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
