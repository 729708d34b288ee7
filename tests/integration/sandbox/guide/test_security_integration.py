"""What code and strangers must not reach; the whole list of attacks is in docs/sandbox.md."""

import httpx
import pytest

from tests.integration.sandbox.guide.conftest import execute, unique, upload

REFUSED = [
    "import socket\nsocket.create_connection(('1.1.1.1', 53), 2)",
    "import urllib.request\nurllib.request.urlopen('http://169.254.169.254/', timeout=2)",
    "open('/etc/shadow').read()",
    "open('/usr/new', 'w')",
    "import os\nos.listdir('/home')",
    "import os\nos.setuid(0)",
    "import os\nos.kill(1, 9)\nopen('/proc/1/mem', 'rb')",
]


@pytest.mark.parametrize("code", REFUSED, ids=lambda code: code.split("\n")[-1][:40])
async def test_code_cannot(api_client: httpx.AsyncClient, code: str) -> None:
    ended = await execute(api_client, code)
    assert ended["exit_code"] == 1
    assert "Error" in ended["stderr"]


async def test_code_sees_no_secret_and_no_other_process(api_client: httpx.AsyncClient) -> None:
    ended = await execute(
        api_client, "import os\nprint([n for n in os.environ if 'KEY' in n or 'SECRET' in n or 'TRAINYARD' in n])\n"
        "print(max(int(p) for p in os.listdir('/proc') if p.isdigit()) < 100)",
    )  # fmt: skip
    assert ended["stdout"] == "[]\nTrue\n"


async def test_a_stranger_finds_nothing(api_client: httpx.AsyncClient, other_client: httpx.AsyncClient) -> None:
    stored = await upload(api_client, "secret.txt", b"mine")
    session, file = stored["session_id"], stored["files"][0]["fileId"]
    for method, path in [
        ("GET", f"/download/{session}/{file}"),
        ("GET", f"/sessions/{session}/objects/{file}"),
        ("DELETE", f"/files/{session}/{file}"),
        ("GET", f"/state/{session}"),
        ("DELETE", f"/sessions/{session}"),
    ]:
        assert (await other_client.request(method, path)).status_code == 404
    run = {"lang": "py", "code": "print(1)", "session_id": session}
    assert (await other_client.post("/exec", json=run)).status_code == 404
    assert (await api_client.get(f"/download/{session}/{file}")).content == b"mine"


async def test_one_entity_of_two_users_is_two_sessions(
    api_client: httpx.AsyncClient, other_client: httpx.AsyncClient
) -> None:
    entity = unique()
    mine = await execute(api_client, "x = 'mine'", entity_id=entity)
    theirs = await execute(other_client, "print('x' in globals())", entity_id=entity)
    assert theirs["stdout"] == "False\n"
    assert theirs["session_id"] != mine["session_id"]
