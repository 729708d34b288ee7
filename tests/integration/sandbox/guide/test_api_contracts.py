"""Shapes of requests, answers and errors."""

from typing import Any

import httpx
import pytest

from tests.integration.sandbox.guide.conftest import execute

NOBODY = "A" * 21


async def test_an_answer_has_the_fields_that_clients_read(api_client: httpx.AsyncClient) -> None:
    ended = await execute(api_client, "print(1)")
    expected = {"session_id": str, "stdout": str, "stderr": str, "files": list, "has_state": bool, "state_size": int}
    assert {name: type(ended[name]) for name in expected} == expected
    assert len(ended["session_id"]) == 21


REFUSED: list[tuple[Any, int, str]] = [
    ({"lang": "py"}, 422, "code"),
    ({"code": "print(1)"}, 422, "lang"),
    ({"lang": "py", "code": 1}, 422, "code"),
    ({"lang": "cobol", "code": "x"}, 400, "lang"),
    ({"lang": "py", "code": "  "}, 400, "code"),
    ({"lang": "py", "code": "x", "session_id": "../../etc"}, 422, "session_id"),
    ({"lang": "py", "code": "x", "entity_id": "no spaces"}, 422, "entity_id"),
    ({"lang": "py", "code": "x", "files": [{"id": "short"}]}, 422, "files"),
    ({"lang": "py", "code": "x", "colour": "blue"}, 422, "colour"),
]


@pytest.mark.parametrize(("body", "status", "named"), REFUSED, ids=lambda value: str(value)[:60])
async def test_what_cannot_be_run_is_refused_by_name(
    api_client: httpx.AsyncClient, body: Any, status: int, named: str
) -> None:
    response = await api_client.post("/exec", json=body)
    assert response.status_code in (status, 400, 422)
    told = response.json()
    assert {"error", "error_type", "details", "request_id", "timestamp"} <= told.keys()
    assert told["error_type"] == "validation"
    assert named in str(told["details"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/download/{NOBODY}/{NOBODY}"),
        ("DELETE", f"/files/{NOBODY}/{NOBODY}"),
        ("GET", f"/sessions/{NOBODY}/objects/{NOBODY}"),
        ("GET", f"/state/{NOBODY}"),
        ("GET", f"/sessions/{NOBODY}/variables"),
    ],
)
async def test_what_is_not_there_is_404(api_client: httpx.AsyncClient, method: str, path: str) -> None:
    response = await api_client.request(method, path)
    assert response.status_code == 404
    assert response.json()["error_type"] == "resource_not_found"


async def test_the_interface_is_served_under_both_bases(api_client: httpx.AsyncClient) -> None:
    for base in ("", "/v1/code"):
        assert (await api_client.get(f"{base}/languages")).status_code == 200


async def test_health_needs_no_key(api_client: httpx.AsyncClient) -> None:
    for path in ("/health", "/healthz", "/readyz"):
        assert (await api_client.get(path, headers={"x-api-key": ""})).status_code == 200
