"""Whatever is malformed: its 4xx, and nothing left behind."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.sandbox.routes.conftest import Yard

PY = {"lang": "py", "code": "print(1)"}
ID = "A" * 21
REF = {"id": ID, "storage_session_id": ID, "name": "a"}


@pytest.fixture
def nothing_left(yard: Yard) -> Iterator[None]:
    """Hold against each other what is stored before and after a test."""
    before = yard.stored()
    yield
    yard.becomes(before)


# ---------------------------------------------------------------- POST /exec


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        # the body as such
        (b"", 400, "invalid_json", None),
        (b"{", 400, "invalid_json", None),
        (b'{"lang": "py", "code": "\xff"}', 400, "invalid_json", None),
        (b"[" * 10_000, 422, "validation_error", None),
        (b"[]", 422, "validation_error", None),
        (b'{"lang": "py", "code": "1", "unknown": 1}', 422, "validation_error", "unknown"),
        # code
        ({"lang": "py"}, 422, "validation_error", "code"),
        ({**PY, "code": 7}, 422, "validation_error", "code"),
        ({**PY, "code": ""}, 400, "empty_code", "code"),
        ({**PY, "code": " \n\t"}, 400, "empty_code", "code"),
        ({**PY, "code": "#" * 10_001}, 413, "request_too_large", "code"),
        # language
        ({"code": "1"}, 422, "validation_error", "lang"),
        ({**PY, "lang": ""}, 422, "validation_error", "lang"),
        ({**PY, "lang": "cobol"}, 400, "unsupported_language", "lang"),
        ({**PY, "lang": "py; rm -rf /"}, 400, "unsupported_language", "lang"),
        ({**PY, "lang": "p" * 33}, 422, "validation_error", "lang"),
        ({**PY, "lang": None}, 422, "validation_error", "lang"),
        # names of sessions
        ({**PY, "session_id": ID}, 404, "session_not_found", "session_id"),
        ({**PY, "session_id": "A" * 20}, 422, "validation_error", "session_id"),
        ({**PY, "session_id": "A" * 22}, 422, "validation_error", "session_id"),
        ({**PY, "session_id": "-" + "A" * 20}, 422, "validation_error", "session_id"),
        ({**PY, "session_id": "../" + "A" * 18}, 422, "validation_error", "session_id"),
        ({**PY, "session_id": "A" * 20 + "\n"}, 422, "validation_error", "session_id"),
        ({**PY, "session_id": 7}, 422, "validation_error", "session_id"),
        ({**PY, "entity_id": ""}, 422, "validation_error", "entity_id"),
        ({**PY, "entity_id": "a/b"}, 422, "validation_error", "entity_id"),
        ({**PY, "entity_id": "a" * 129}, 422, "validation_error", "entity_id"),
        ({**PY, "runtime_session_hint": ""}, 422, "validation_error", "runtime_session_hint"),
        ({**PY, "workspace_instance_id": "a" * 64}, 400, "unsupported_capability", None),
        # references
        ({**PY, "files": {}}, 422, "validation_error", "files"),
        ({**PY, "files": [7]}, 422, "validation_error", "files[0]"),
        ({**PY, "files": [{}]}, 422, "validation_error", "files[0].id"),
        ({**PY, "files": [{"id": ID}]}, 422, "validation_error", "files[0].storage_session_id"),
        ({**PY, "files": [{**REF, "id": "short"}]}, 422, "validation_error", "files[0].id"),
        (
            {**PY, "files": [{**REF, "storage_session_id": "short"}]},
            422,
            "validation_error",
            "files[0].storage_session_id",
        ),
        ({**PY, "files": [{**REF, "name": ""}]}, 422, "validation_error", "files[0].name"),
        ({**PY, "files": [{**REF, "kind": "team"}]}, 422, "validation_error", "files[0].kind"),
        ({**PY, "files": [{**REF, "kind": "skill"}]}, 422, "validation_error", "files[0].id"),
        ({**PY, "files": [{**REF, "kind": "skill", "resource_id": "s"}]}, 422, "validation_error", "files[0].version"),
        (
            {**PY, "files": [{**REF, "kind": "agent", "resource_id": "a", "version": 1}]},
            422,
            "validation_error",
            "files[0].version",
        ),
        ({**PY, "files": [{**REF, "kind": "user", "version": 1}]}, 422, "validation_error", "files[0].version"),
        ({**PY, "files": [{**REF, "more": 1}]}, 422, "validation_error", "files[0].more"),
        ({**PY, "files": [REF]}, 404, "file_not_found", "files"),
        ({**PY, "files": [REF] * 6}, 413, "too_many_files", "files"),
        # what the program is given
        ({**PY, "args": "x"}, 422, "validation_error", "args"),
        ({**PY, "args": [1]}, 422, "validation_error", "args[0]"),
        ({**PY, "args": ["a\0b"]}, 422, "validation_error", "args"),
        ({**PY, "args": ["x" * 131_071] * 9}, 413, "request_too_large", "args"),
        ({**PY, "env": {"A-B": "1"}}, 422, "validation_error", None),
        ({**PY, "env": {"A": 1}}, 422, "validation_error", "env[...]"),
        ({**PY, "env": []}, 422, "validation_error", "env"),
        ({**PY, "stdin": 1}, 422, "validation_error", "stdin"),
        # time
        ({**PY, "timeout_s": 0}, 422, "validation_error", "timeout_s"),
        ({**PY, "timeout_s": -1}, 422, "validation_error", "timeout_s"),
        ({**PY, "timeout_s": 301}, 422, "validation_error", "timeout"),
        ({**PY, "timeout": 300_001}, 422, "validation_error", "timeout"),
        ({**PY, "timeout": 1000, "timeout_s": 1}, 422, "validation_error", "timeout"),
        (b'{"lang": "py", "code": "1", "timeout_s": 1e999}', 422, "validation_error", "timeout_s"),
        (b'{"lang": "py", "code": "1", "timeout_s": NaN}', 400, "invalid_json", None),
        ({**PY, "stream": "yes"}, 422, "validation_error", "stream"),
    ],
)
def test_a_run_that_cannot_be(
    yard: Yard, nothing_left: None, body: dict[str, Any] | bytes, status: int, code: str, param: str | None
) -> None:
    given = {"content": body} if isinstance(body, bytes) else {"json": body}
    answer = yard.client.post("/exec", **given)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    (fault,) = answer.json()["details"]
    assert fault["field"] == param


def test_a_language_that_is_not_here_is_400_with_those_that_are(yard: Yard) -> None:
    answer = yard.client.post("/exec", json={**PY, "lang": "cobol"})
    here = [one["code"] for one in yard.client.get("/languages").json()["languages"]]
    assert "py" in here
    assert all(code in answer.json()["message"] for code in here)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"X-CodeAPI-Expected-Profile": "hosted"}, "execution_profile_mismatch"),
        ({"X-LibreChat-Code-Workspace-ID": "w1"}, "unsupported_capability"),
    ],
)
def test_what_librechat_expects_and_is_not_here_has_a_code_that_it_knows(
    yard: Yard, nothing_left: None, headers: dict[str, str], code: str
) -> None:
    answer = yard.client.post("/exec", json=PY, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, code)


@pytest.mark.parametrize("profile", ["default", "stateful"])
def test_both_profiles_of_librechat_are_served(yard: Yard, profile: str) -> None:
    answer = yard.client.post("/exec", json=PY, headers={"X-CodeAPI-Expected-Profile": profile})
    assert answer.status_code == 200


# ---------------------------------------------------------------- uploads


def part(name: str, content: bytes, file_name: str | bytes | None = None) -> bytes:
    """Write one part of a form."""
    raw = file_name.encode() if isinstance(file_name, str) else file_name
    head = b'Content-Disposition: form-data; name="' + name.encode() + b'"'
    head += b"" if raw is None else b'; filename="' + raw + b'"'
    return head + b"\r\n\r\n" + content


def form(*parts: bytes, end: bytes = b"--b--\r\n", kind: str = "multipart/form-data; boundary=b") -> dict[str, Any]:
    """Write a form by hand."""
    body = b"".join(b"--b\r\n" + one + b"\r\n" for one in parts) + end
    return {"content": body, "headers": {"Content-Type": kind}}


GOOD = part("file", b"1", "good.txt")
UPLOADS = {
    "no form": (form(kind="application/json"), 415, "unsupported_media_type"),
    "no content type": ({"content": b"abc"}, 415, "unsupported_media_type"),
    "a form of fields": (form(kind="application/x-www-form-urlencoded"), 415, "unsupported_media_type"),
    "no boundary": (form(GOOD, kind="multipart/form-data"), 400, "invalid_multipart"),
    "a boundary without end": (form(GOOD, kind="multipart/form-data; boundary=" + "b" * 201), 400, "invalid_multipart"),
    "another boundary": (form(GOOD, kind="multipart/form-data; boundary=c"), 400, "invalid_multipart"),
    "nothing": (form(), 422, "missing"),
    "an empty body": (form(end=b""), 400, "invalid_multipart"),
    "garbage": (form(end=b"garbage"), 400, "invalid_multipart"),
    "cut off in a head": (form(GOOD, end=b"--b\r\nContent-Disp"), 400, "invalid_multipart"),
    "cut off in a file": (form(GOOD, end=b"--b\r\n" + part("file", b"half", "half.txt")), 400, "invalid_multipart"),
    "no end": (form(GOOD, end=b""), 400, "invalid_multipart"),
    "only fields": (form(part("entity_id", b"e")), 422, "missing"),
    "a file without a file name": (form(part("file", b"1")), 422, "validation_error"),
    "a part without a name": (form(GOOD, b"Content-Disposition: form-data\r\n\r\nx"), 400, "invalid_multipart"),
    "a part without a head": (form(GOOD, b"\r\nx"), 400, "invalid_multipart"),
    "a head that is too long": (form(GOOD, b"X-A: " + b"a" * 20_000 + b"\r\n\r\nx"), 400, "invalid_multipart"),
    "too many heads": (form(GOOD, b"X-A: a\r\n" * 20 + b"\r\nx"), 400, "invalid_multipart"),
    "an unknown field": (form(part("folder", b"f"), GOOD), 422, "validation_error"),
    "a field twice": (form(part("id", b"a"), part("id", b"b"), GOOD), 422, "validation_error"),
    "a field behind a file": (form(GOOD, part("entity_id", b"e")), 422, "validation_error"),
    "a file under another name": (form(GOOD, part("document", b"1", "d.txt")), 422, "validation_error"),
    "a field that is too long": (form(part("id", b"a" * 70_000), GOOD), 400, "invalid_multipart"),
    "a field that is no text": (form(part("id", b"\xff"), GOOD), 400, "invalid_multipart"),
    "an unknown kind": (form(part("kind", b"team"), GOOD), 422, "validation_error"),
    "a skill without its id": (form(part("kind", b"skill"), part("version", b"1"), GOOD), 422, "validation_error"),
    "a skill without its version": (form(part("kind", b"skill"), part("id", b"s"), GOOD), 422, "validation_error"),
    "an agent with a version": (
        form(part("kind", b"agent"), part("id", b"a"), part("version", b"1"), GOOD),
        422,
        "validation_error",
    ),
    "neither true nor false": (form(part("read_only", b"maybe"), GOOD), 422, "validation_error"),
    "a bad entity": (form(part("entity_id", b"a/b"), GOOD), 422, "validation_error"),
    "an unknown session": (form(part("session_id", b"A" * 21), GOOD), 404, "session_not_found"),
    "a session that is none": (form(part("session_id", b"../x"), GOOD), 404, "session_not_found"),
    "an empty name": (form(GOOD, part("file", b"1", "")), 422, "invalid_file_name"),
    "a name that leads out": (form(GOOD, part("file", b"1", "../up.txt")), 422, "invalid_file_name"),
    "a name that leads out later": (form(GOOD, part("file", b"1", "a/../../up.txt")), 422, "invalid_file_name"),
    "an absolute name": (form(GOOD, part("file", b"1", "/etc/passwd")), 422, "invalid_file_name"),
    "a folder": (form(GOOD, part("file", b"1", "folder/")), 422, "invalid_file_name"),
    "a name of dots": (form(GOOD, part("file", b"1", "..")), 422, "invalid_file_name"),
    "an empty part of a name": (form(GOOD, part("file", b"1", "a//b")), 422, "invalid_file_name"),
    "a NUL in a name": (form(GOOD, part("file", b"1", "a\0b")), 422, "invalid_file_name"),
    "a name that is no UTF-8": (form(GOOD, part("file", b"1", b"\xff.txt")), 400, "invalid_multipart"),
    "a part of a name that is too long": (form(GOOD, part("file", b"1", "n" * 300)), 422, "invalid_file_name"),
    "a name that is too long": (form(GOOD, part("file", b"1", "a/" * 2100 + "a")), 422, "invalid_file_name"),
    "a name twice": (form(GOOD, part("file", b"2", "good.txt")), 422, "invalid_file_name"),
    "a file and a folder of one name": (form(GOOD, part("file", b"2", "good.txt/a")), 422, "invalid_file_name"),
    "a file that is too large": (form(GOOD, part("file", b"x" * 100_001, "big.bin")), 413, "file_too_large"),
    "too many files": (form(*(part("file", b"1", f"{n}.txt") for n in range(6))), 413, "too_many_files"),
    "a body that is far too large": (form(part("file", b"x" * 900_000, "big.bin")), 413, "request_too_large"),
}


@pytest.mark.parametrize("name", UPLOADS)
def test_an_upload_that_cannot_be(yard: Yard, nothing_left: None, name: str) -> None:
    request, status, code = UPLOADS[name]
    answer = yard.client.post("/upload", **request)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_a_body_that_is_longer_than_it_says_does_not_get_in(yard: Yard, nothing_left: None) -> None:
    """Sent in chunks, so that no length is declared."""

    def pieces() -> Iterator[bytes]:
        yield b"--b\r\n" + part("file", b"", "big.bin")
        for _ in range(4):
            yield b"x" * 50_000

    answer = yard.client.post("/upload", content=pieces(), headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert (answer.status_code, answer.json()["code"]) == (413, "file_too_large")


@pytest.mark.parametrize("name", ["no form", "no boundary", "nothing", "no end", "a field behind a file"])
def test_a_batch_that_is_no_form_is_refused_as_a_whole(yard: Yard, nothing_left: None, name: str) -> None:
    request, status, code = UPLOADS[name]
    answer = yard.client.post("/upload/batch", **request)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


# ---------------------------------------------------------------- paths, queries, states


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"/files/{ID}?detail=all", 422, "validation_error"),
        ("GET", f"/files/{ID}?details=full", 422, "validation_error"),
        ("GET", f"/files/{ID}?kind=team", 422, "validation_error"),
        ("GET", f"/files/{ID}?kind=skill&id=s", 422, "validation_error"),
        ("GET", f"/files/{ID}", 404, "session_not_found"),
        ("GET", "/files/short", 404, "session_not_found"),
        ("GET", "/files/%00", 404, "session_not_found"),
        ("GET", "/files/..%2F..%2Fetc", 404, "unknown_path"),
        ("GET", "/files/" + "a" * 300, 422, "validation_error"),
        ("GET", f"/download/{ID}/{ID}", 404, "file_not_found"),
        ("GET", f"/download/{ID}/%ff", 404, "file_not_found"),
        ("GET", f"/sessions/{ID}/objects/{ID}", 404, "file_not_found"),
        ("DELETE", f"/files/{ID}/{ID}", 404, "session_not_found"),
        ("GET", f"/state/{ID}", 404, "session_not_found"),
        ("GET", f"/state/{ID}/info", 404, "session_not_found"),
        ("DELETE", f"/state/{ID}", 404, "session_not_found"),
        ("POST", f"/state/{ID}", 404, "session_not_found"),
        ("GET", f"/sessions/{ID}", 404, "session_not_found"),
        ("DELETE", f"/sessions/{ID}", 404, "session_not_found"),
        ("POST", f"/sessions/{ID}/interrupt", 404, "session_not_found"),
        ("POST", f"/sessions/{ID}/reset", 404, "session_not_found"),
        ("GET", f"/sessions/{ID}/variables", 404, "session_not_found"),
        ("GET", "/exec", 405, "method_not_allowed"),
        ("PUT", "/upload", 405, "method_not_allowed"),
        ("POST", "/exec/programmatic", 404, "unknown_path"),
        ("GET", f"/sessions/{ID}/nothing", 404, "unknown_path"),
    ],
)
def test_a_path_or_query_that_cannot_be(
    yard: Yard, nothing_left: None, method: str, path: str, status: int, code: str
) -> None:
    answer = yard.client.request(method, path)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.json()["error_type"] in ("validation", "resource_not_found")


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [(b"", 400, "invalid_state"), (b"x", 400, "invalid_state"), (b"\x02" + b"x" * 5000, 400, "invalid_state")],
)
def test_a_state_that_is_none(yard: Yard, content: bytes, status: int, code: str) -> None:
    session = yard.client.post("/exec", json={"lang": "py", "code": "x = 1"}).json()["session_id"]
    body = {"lang": "py", "code": "print(x)", "session_id": session}
    assert yard.client.post("/exec", json=body).json()["stdout"] == "1\n"
    answer = yard.client.post(f"/state/{session}", content=content)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert yard.client.post("/exec", json=body).json()["stdout"] == "1\n"
