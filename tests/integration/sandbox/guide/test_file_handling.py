"""Files between runs: found, edited in place, made, removed."""

from typing import Any

import httpx

from tests.integration.sandbox.guide.conftest import execute, upload


def named(ended: dict[str, Any], *, inherited: bool = False) -> list[str]:
    return sorted(file["name"] for file in ended["files"] if bool(file.get("inherited")) is inherited)


def reference(stored: dict[str, Any]) -> dict[str, str]:
    [file] = stored["files"]
    return {"id": file["fileId"], "storage_session_id": stored["session_id"], "name": file["filename"]}


async def test_an_uploaded_file_is_there_for_the_code(api_client: httpx.AsyncClient) -> None:
    stored = await upload(api_client, "in/data.csv", b"a\n1\n2\n")
    ended = await execute(api_client, "print(open('/mnt/data/in/data.csv').read())", files=[reference(stored)])
    assert ended["stdout"] == "a\n1\n2\n\n"
    assert named(ended, inherited=True) == ["in/data.csv"]


async def test_an_edit_in_place_comes_back_and_leaves_the_origin_alone(api_client: httpx.AsyncClient) -> None:
    stored = await upload(api_client, "note.txt", b"one")
    ended = await execute(api_client, "open('note.txt', 'a').write(' two')", files=[reference(stored)])
    assert named(ended) == ["note.txt"]
    [file] = ended["files"]
    assert (await api_client.get(f"/download/{ended['session_id']}/{file['id']}")).content == b"one two"
    origin = f"/download/{stored['session_id']}/{stored['files'][0]['fileId']}"
    assert (await api_client.get(origin)).content == b"one"


async def test_nested_outputs_are_kept_with_their_folders(api_client: httpx.AsyncClient) -> None:
    ended = await execute(api_client, "import os\nos.makedirs('a/b')\nopen('a/b/c.txt', 'w').write('deep')")
    assert named(ended) == ["a/b/c.txt"]


async def test_a_removed_file_is_reported(api_client: httpx.AsyncClient) -> None:
    made = await execute(api_client, "open('x', 'w').write('1')")
    ended = await execute(api_client, "import os\nos.remove('x')", session_id=made["session_id"])
    assert ended["deleted_files"] == ["x"]
    assert (await api_client.get(f"/files/{made['session_id']}")).json() == []


async def test_a_run_that_fails_registers_no_new_files(api_client: httpx.AsyncClient) -> None:
    ended = await execute(api_client, "open('half', 'w').write('1')\nraise SystemExit(3)")
    assert (ended["exit_code"], named(ended)) == (3, [])


async def test_a_missing_reference_is_an_error_that_names_it(api_client: httpx.AsyncClient) -> None:
    absent = {"id": "A" * 21, "session_id": "B" * 21, "name": "x"}
    response = await api_client.post("/exec", json={"lang": "py", "code": "1", "files": [absent]})
    assert response.status_code == 404
    assert absent["id"] in response.text


async def test_many_small_outputs_do_not_hang(api_client: httpx.AsyncClient) -> None:
    ended = await execute(api_client, "for i in range(300): open(f'{i}.txt', 'w').write(str(i))", timeout_s=60)
    assert len(named(ended)) == 300


async def test_links_and_pipes_are_no_outputs(api_client: httpx.AsyncClient) -> None:
    ended = await execute(api_client, "import os\nos.symlink('/etc/passwd', 'link')\nos.mkfifo('pipe')\nopen('f','w')")
    assert named(ended) == ["f"]
