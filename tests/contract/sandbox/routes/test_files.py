"""Uploads, lists, downloads and removals."""

from typing import Any

import pytest

from tests.contract.sandbox.routes.conftest import Open, Yard


def upload(yard: Yard, *files: tuple[str, bytes], path: str = "/upload", **fields: str) -> dict[str, Any]:
    """Upload files."""
    answer = yard.client.post(path, data=fields, files=[("file", file) for file in files])
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def boundary(*parts: bytes) -> dict[str, Any]:
    """Write a form by hand."""
    body = b"".join(b"--b\r\n" + part + b"\r\n" for part in parts) + b"--b--\r\n"
    return {"content": body, "headers": {"Content-Type": "multipart/form-data; boundary=b"}}


def file_part(disposition: bytes, content: bytes = b"x") -> bytes:
    return b'Content-Disposition: form-data; name="file"; ' + disposition + b"\r\n\r\n" + content


def test_files_are_stored_under_their_names_in_one_session(yard: Yard) -> None:
    done = upload(yard, ("a.csv", b"1,2"), ("sub/ünï 文件.txt", b"text"))
    assert done["message"] == "success"
    assert done["session_id"] == done["storage_session_id"]
    assert [(file["filename"], file["size"]) for file in done["files"]] == [("a.csv", 3), ("sub/ünï 文件.txt", 4)]
    for file, content in zip(done["files"], (b"1,2", b"text"), strict=True):
        assert yard.client.get(f"/download/{done['session_id']}/{file['fileId']}").content == content


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('filename="naïve 文.txt"'.encode(), "naïve 文.txt"),
        (b"filename=\"x.txt\"; filename*=UTF-8''na%C3%AFve%20%E6%96%87.txt", "naïve 文.txt"),
        (b"filename*=utf-8'de'%e2%82%ac.txt", "€.txt"),
        (b"filename*=iso-8859-1''%e9.txt", "é.txt"),
        (b'filename="a;b=c \\"q\\".txt"', 'a;b=c "q".txt'),
        (b"filename=\"no; filename*=UTF-8''evil.txt\"", "no; filename*=UTF-8''evil.txt"),
        (b'filename=".hidden"', ".hidden"),
        (b'filename="' + b"n" * 251 + b'.txt"', "n" * 251 + ".txt"),
        (b'filename="a/b/c/d.txt"', "a/b/c/d.txt"),
    ],
)
def test_names_as_clients_write_them(yard: Yard, disposition: bytes, name: str) -> None:
    answer = yard.client.post("/upload", **boundary(file_part(disposition)))
    assert answer.status_code == 200, answer.text
    assert [file["filename"] for file in answer.json()["files"]] == [name]


def test_both_names_of_the_file_field_are_taken_and_fields_come_first(yard: Yard) -> None:
    answer = yard.client.post(
        "/upload", data={"entity_id": "agent_1"}, files=[("files", ("a", b"1")), ("file", ("b", b"2"))]
    )
    assert [file["filename"] for file in answer.json()["files"]] == ["a", "b"]
    again = upload(yard, ("c", b"3"), entity_id="agent_1")
    assert again["session_id"] == answer.json()["session_id"]
    into = upload(yard, ("d", b"4"), session_id=again["session_id"])
    assert into["session_id"] == again["session_id"]


def test_uploaded_files_are_inputs_of_a_run_and_in_its_workspace(yard: Yard) -> None:
    done = upload(yard, ("data/in.csv", b"1,2"))
    refs = [{"id": done["files"][0]["fileId"], "storage_session_id": done["session_id"], "name": "data/in.csv"}]
    body = {"lang": "py", "code": "print(open('data/in.csv').read())", "files": refs}
    ran = yard.client.post("/exec", json=body).json()
    assert ran["stdout"] == "1,2\n"
    assert [(file["name"], file["inherited"]) for file in ran["files"]] == [("data/in.csv", True)]
    body["files"] = [{"id": refs[0]["id"], "session_id": done["session_id"], "name": "data/in.csv"}]
    assert yard.client.post("/exec", json=body).json()["files"] == []  # the oldest clients take all of them for new


def test_a_batch_keeps_what_can_be_kept_and_tells_of_the_rest(yard: Yard) -> None:
    done = upload(yard, ("good", b"1"), ("big", b"x" * 100_001), ("../up", b"2"), ("fine", b"3"), path="/upload/batch")
    assert (done["message"], done["succeeded"], done["failed"]) == ("partial_success", 2, 2)
    told = [(file["filename"], file["status"], file["code"]) for file in done["files"]]
    assert told == [
        ("good", "success", None),
        ("big", "error", "file_too_large"),
        ("../up", "error", "invalid_file_name"),
        ("fine", "success", None),
    ]
    names = [file["path"] for file in yard.client.get(f"/files/{done['session_id']}?detail=simple").json()]
    assert sorted(names) == ["fine", "good"]


def test_files_behind_the_last_of_a_batch_are_refused_each_in_its_place(open_yard: Open) -> None:
    bars = {"file_bytes": 100_000, "files_per_request": 1, "files_per_batch": 6}
    with open_yard(sandbox={"limits": bars}) as yard:
        large = [(f"{n}.bin", b"x" * 100_000) for n in range(6)]  # longer than the body of an upload may be
        done = upload(yard, *large, ("7", b"7"), ("8", b"8"), path="/upload/batch")
        assert (done["message"], done["succeeded"], done["failed"]) == ("partial_success", 6, 2)
        assert [(file["filename"], file["code"]) for file in done["files"][5:]] == [
            ("5.bin", None),
            ("7", "too_many_files"),
            ("8", "too_many_files"),
        ]
        assert len(yard.client.get(f"/files/{done['session_id']}").json()) == 6


@pytest.mark.parametrize(("name", "message"), [("ok", "success"), ("../up", "error")])
def test_a_batch_of_one(yard: Yard, name: str, message: str) -> None:
    done = upload(yard, (name, b"1"), path="/upload/batch")
    assert done["message"] == message
    assert (done["session_id"] is None) is (message == "error")


def test_files_of_a_skill_are_for_every_user_of_the_tenant_who_names_it(yard: Yard) -> None:
    done = upload(yard, ("run.py", b"print(7)"), kind="skill", id="sk1", version="3", read_only="true")
    path = f"{done['session_id']}/{done['files'][0]['fileId']}"
    bert = yard.headers("bert")
    assert yard.stranger.get(f"/download/{path}?kind=skill&id=sk1&version=3", headers=bert).content == b"print(7)"
    for query in ("", "?kind=skill&id=sk1&version=4", "?kind=skill&id=other&version=3", "?kind=agent&id=sk1"):
        assert yard.stranger.get(f"/download/{path}{query}", headers=bert).status_code == 404
    carl = yard.headers("bert", tenant="globex")
    assert yard.stranger.get(f"/download/{path}?kind=skill&id=sk1&version=3", headers=carl).status_code == 404
    ref = {"id": done["files"][0]["fileId"], "storage_session_id": done["session_id"], "kind": "skill"}
    ref |= {"resource_id": "sk1", "version": 3, "name": "skill/run.py"}
    body = {"lang": "py", "code": "print(open('skill/run.py').read())", "files": [ref]}
    assert yard.stranger.post("/exec", json=body, headers=bert).json()["stdout"] == "print(7)\n"
    shown = yard.stranger.get(f"/sessions/{path.replace('/', '/objects/')}?kind=skill&id=sk1&version=3", headers=bert)
    assert (shown.json()["kind"], shown.json()["resource_id"], shown.json()["version"]) == ("skill", "sk1", 3)


# ---------------------------------------------------------------- lists and single files


def test_lists_have_the_three_forms(yard: Yard) -> None:
    done = upload(yard, ("sub/a.tar.gz", b"1234"))
    session, file = done["session_id"], done["files"][0]["fileId"]
    simple = yard.client.get(f"/files/{session}?detail=simple").json()
    assert simple == [{"id": file, "name": "sub/a.tar.gz", "path": "sub/a.tar.gz"}]
    (summary,) = yard.client.get(f"/files/{session}?detail=summary&entity_id=agent_1").json()
    assert summary["name"] == f"{session}/{file}"
    assert summary["lastModified"].endswith("Z")
    (full,) = yard.client.get(f"/files/{session}").json()
    assert full["name"] == f"{session}/{file}.gz"  # LibreChat's oldest clients cut the id out of it
    assert full["name"].split("/")[1].split(".")[0] == file
    assert full["metadata"] == {"content-type": "application/x-tar", "original-filename": "sub/a.tar.gz"}
    assert (full["size"], full["kind"], full["read_only"], full["version"]) == (4, "user", False, None)
    assert yard.client.get(f"/sessions/{session}/objects/{file}?kind=user&id=anna").json() == full


@pytest.mark.parametrize("path", ["/files/{}/{}", "/sessions/{}/objects/{}"])
def test_a_file_that_is_removed_is_gone_for_lists_and_runs(yard: Yard, path: str) -> None:
    done = upload(yard, ("a", b"1"), ("b", b"2"))
    session, file = done["session_id"], done["files"][0]["fileId"]
    yard.client.post("/exec", json={"lang": "py", "code": "1", "session_id": session})
    removed = yard.client.delete(path.format(session, file) + "?kind=user&id=anna")
    assert (removed.status_code, removed.content) == (200, b"")
    assert yard.client.delete(path.format(session, file)).status_code == 404
    assert [one["name"] for one in yard.client.get(f"/files/{session}?detail=simple").json()] == ["b"]
    body = {"lang": "py", "code": "import os; print(os.listdir('.'))", "session_id": session}
    assert yard.client.post("/exec", json=body).json()["stdout"] == "['b']\n"


# ---------------------------------------------------------------- downloads


CONTENT = bytes(range(256)) * 40


@pytest.fixture
def stored(yard: Yard) -> str:
    done = upload(yard, ("fo\"o/Bericht 'ü'.html", CONTENT))
    return f"/download/{done['session_id']}/{done['files'][0]['fileId']}"


def test_a_download_has_all_that_a_client_needs_and_nothing_that_a_browser_runs(yard: Yard, stored: str) -> None:
    answer = yard.client.get(stored + "?kind=user&id=anna")
    assert answer.content == CONTENT
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-disposition"] == (
        "attachment; filename=\"Bericht____.html\"; filename*=UTF-8''Bericht%20%27%C3%BC%27.html"
    )
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox;")
    head = yard.client.head(stored)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "etag", "content-disposition"):
        assert head.headers[name] == answer.headers[name]


@pytest.mark.parametrize(
    ("asked", "first", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=10000-", 10000, 10240),
        ("bytes=-5", 10235, 10240),
        ("bytes=10230-99999", 10230, 10240),
        ("bytes=-99999", 0, 10240),
    ],
)
def test_a_range(yard: Yard, stored: str, asked: str, first: int, end: int) -> None:
    answer = yard.client.get(stored, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, CONTENT[first:end])
    assert answer.headers["content-range"] == f"bytes {first}-{end - 1}/10240"
    assert answer.headers["content-length"] == str(end - first)


@pytest.mark.parametrize("asked", ["bytes=5-3", "bytes=-", "lines=1-2", "bytes=0-1,5-6", "bytes=a-b", ""])
def test_what_is_no_single_range_is_the_whole(yard: Yard, stored: str, asked: str) -> None:
    answer = yard.client.get(stored, headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, CONTENT)


@pytest.mark.parametrize("asked", ["bytes=10240-", "bytes=99999-100000", "bytes=-0"])
def test_a_range_behind_the_end_is_416(yard: Yard, stored: str, asked: str) -> None:
    answer = yard.client.get(stored, headers={"Range": asked})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */10240")


def test_a_range_for_another_content_is_the_whole(yard: Yard, stored: str) -> None:
    etag = yard.client.head(stored).headers["etag"]
    assert yard.client.get(stored, headers={"Range": "bytes=0-1", "If-Range": etag}).status_code == 206
    assert yard.client.get(stored, headers={"Range": "bytes=0-1", "If-Range": '"other"'}).status_code == 200


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*", "bare"])
def test_a_content_that_is_known_is_not_sent_again(yard: Yard, stored: str, form: str) -> None:
    etag = yard.client.head(stored).headers["etag"]
    asked = etag.strip('"') if form == "bare" else form.format(etag)
    answer = yard.client.get(stored, headers={"If-None-Match": asked})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert yard.client.get(stored, headers={"If-None-Match": '"other"'}).status_code == 200


def test_an_empty_file(yard: Yard) -> None:
    done = upload(yard, ("empty", b""))
    path = f"/download/{done['session_id']}/{done['files'][0]['fileId']}"
    answer = yard.client.get(path)
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")
    assert yard.client.get(path, headers={"Range": "bytes=0-0"}).status_code == 416


def test_options_tell_what_a_download_takes(yard: Yard, stored: str) -> None:
    answer = yard.client.options(stored)
    assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS")


# ---------------------------------------------------------------- strangers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/files/{s}"),
        ("GET", "/download/{s}/{f}"),
        ("HEAD", "/download/{s}/{f}"),
        ("GET", "/sessions/{s}/objects/{f}"),
        ("DELETE", "/files/{s}/{f}"),
        ("DELETE", "/sessions/{s}/objects/{f}"),
        ("GET", "/sessions/{s}"),
        ("DELETE", "/sessions/{s}"),
        ("POST", "/sessions/{s}/interrupt"),
        ("POST", "/sessions/{s}/reset"),
        ("GET", "/sessions/{s}/variables"),
        ("GET", "/state/{s}"),
        ("GET", "/state/{s}/info"),
        ("DELETE", "/state/{s}"),
        ("POST", "/state/{s}"),
    ],
)
@pytest.mark.parametrize("tenant", ["acme", "globex"])
def test_what_is_somebody_elses_is_answered_as_what_is_not_there(
    yard: Yard, method: str, path: str, tenant: str
) -> None:
    done = upload(yard, ("a", b"1"))
    session, file = done["session_id"], done["files"][0]["fileId"]
    other = yard.headers("bert", tenant)
    foreign = yard.stranger.request(method, path.format(s=session, f=file), headers=other)
    absent = yard.stranger.request(method, path.format(s="A" * 21, f="B" * 21), headers=other)
    assert foreign.status_code == absent.status_code == 404
    if method != "HEAD":
        varying = ("request_id", "timestamp")
        shown = [{k: v for k, v in answer.json().items() if k not in varying} for answer in (foreign, absent)]
        assert shown[0] == shown[1]
    assert yard.client.get(f"/download/{session}/{file}").content == b"1"
