"""Variables between runs: the guide's example, what is kept, export and import."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.integration.sandbox.guide.conftest import execute, unique


@pytest.mark.asyncio
async def test_state_persistence(api_client: httpx.AsyncClient) -> None:
    entity = unique()
    response1 = await api_client.post(
        "/exec", json={"lang": "py", "code": "x = 42", "entity_id": entity, "user_id": "test"}
    )
    session_id = response1.json()["session_id"]
    response2 = await api_client.post(
        "/exec",
        json={"lang": "py", "code": "print(x)", "entity_id": entity, "user_id": "test", "session_id": session_id},
    )
    assert response2.json()["stdout"] == "42\n"


KEPT = [
    ("x = {'a': [1, 2]}", "print(x)", "{'a': [1, 2]}\n"),
    ("def double(n): return 2 * n", "print(double(4))", "8\n"),
    ("class Point:\n    def __init__(self, x): self.x = x\np = Point(3)", "print(p.x, Point(4).x)", "3 4\n"),
    ("import numpy as np\na = np.arange(3)", "print(a.sum())", "3\n"),
    ("import pandas as pd\nd = pd.DataFrame({'a': [1, 2]})", "print(d.a.sum())", "3\n"),
]


async def durable(client: httpx.AsyncClient, session: str) -> dict[str, Any]:
    """Wait until everything is written down."""
    async with asyncio.timeout(30):
        while not (info := (await client.get(f"/state/{session}/info")).json())["is_durable"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    known: dict[str, Any] = info
    return known


@pytest.mark.parametrize(("define", "use", "output"), KEPT, ids=["dict", "function", "class", "numpy", "pandas"])
async def test_what_was_defined_is_there_again_also_from_a_checkpoint(
    api_client: httpx.AsyncClient, define: str, use: str, output: str
) -> None:
    session = (await execute(api_client, define))["session_id"]
    assert (await execute(api_client, use, session_id=session))["stdout"] == output
    await durable(api_client, session)
    exported = (await api_client.get(f"/state/{session}")).content
    other = (await execute(api_client, "begun = True"))["session_id"]
    assert (await api_client.post(f"/state/{other}", content=exported)).status_code == 201
    assert (await execute(api_client, use, session_id=other))["stdout"] == output


async def test_an_unchanged_state_is_not_sent_again(api_client: httpx.AsyncClient) -> None:
    session = (await execute(api_client, "x = 1"))["session_id"]
    info = await durable(api_client, session)
    first = await api_client.get(f"/state/{session}")
    assert first.headers["etag"] == f'"{info["hash"]}"'
    for etag in (first.headers["etag"], info["hash"]):
        again = await api_client.get(f"/state/{session}", headers={"If-None-Match": etag})
        assert (again.status_code, again.content) == (304, b"")


async def test_a_deleted_state_is_gone_from_the_interpreter_too(api_client: httpx.AsyncClient) -> None:
    session = (await execute(api_client, "x = 1"))["session_id"]
    await durable(api_client, session)
    assert (await api_client.delete(f"/state/{session}")).status_code == 204
    assert (await api_client.get(f"/state/{session}")).status_code == 404
    assert (await execute(api_client, "print('x' in globals())", session_id=session))["stdout"] == "False\n"


async def test_what_cannot_be_kept_is_named(api_client: httpx.AsyncClient) -> None:
    session = (await execute(api_client, "x = 1\ng = (n for n in range(3))"))["session_id"]
    info = await durable(api_client, session)
    assert (info["kept"], [one["name"] for one in info["dropped"]]) == (["x"], ["g"])


@pytest.mark.parametrize("content", [b"", b"\x01", b"\x02abc", b"\x03garbage", b"\x80\x05N."])
async def test_bytes_that_are_no_state_are_refused(api_client: httpx.AsyncClient, content: bytes) -> None:
    session = (await execute(api_client, "x = 1"))["session_id"]
    response = await api_client.post(f"/state/{session}", content=content)
    assert 400 <= response.status_code < 500
    assert (await execute(api_client, "print(x)", session_id=session))["stdout"] == "1\n"
