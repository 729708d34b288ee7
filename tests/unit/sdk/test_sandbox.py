"""Runs and sessions of the sandbox on both clients: what goes over the wire, and what comes back."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.sdk.wire import Wire, asynchronous, blocking
from trainyard.sdk import ServerError
from trainyard.sdk.sandbox_calls import UploadOptions
from trainyard.sdk.sandbox_results import Execution

SESSION, FILE = "s" * 21, "f" * 21
ENDED = {
    "session_id": SESSION, "stdout": "1\n", "stderr": "", "error": None, "exit_code": 0, "files": [],
    "results": [{"output_type": "execute_result", "data": {"text/plain": "42"}, "metadata": {}, "file": None}],
}  # fmt: skip
FAILED = ENDED | {"error": "Sandbox exited with code 1", "exit_code": 1, "results": []}


def answer(body: object) -> httpx.Response:
    return httpx.Response(200, json=body)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def events(*named: tuple[str, object]) -> httpx.Response:
    text = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in named)
    return httpx.Response(200, text=": still running\n\n" + text, headers={"content-type": "text/event-stream"})


def test_a_run_sends_what_was_given_and_tells_the_value() -> None:
    wire = Wire(answer(ENDED))
    with blocking(wire) as client:
        ended = client.sandbox.run("print(1); 42", args=["a"], timeout_s=5, env={"A": "b"})
    assert (wire.requests[-1].method, wire.requests[-1].url.path) == ("POST", "/v1/code/exec")
    assert wire.body == {"code": "print(1); 42", "lang": "py", "args": ["a"], "timeout_s": 5, "env": {"A": "b"}}
    assert isinstance(ended, Execution)
    assert (ended.is_success, ended.value, ended.stdout) == (True, "42", "1\n")


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ({"text/html": "<b>4</b>", "text/plain": "4"}, "4"),
        ({"image/png": "iVBORw0KGgo=", "text/html": "<b>4</b>"}, "<b>4</b>"),
        ({"image/png": "iVBORw0KGgo="}, None),
        ({}, None),
    ],
)
def test_a_value_is_told_in_the_text_that_it_has(data: dict[str, str], value: str | None) -> None:
    with blocking(Wire(answer(ENDED | {"results": [{"output_type": "execute_result", "data": data}]}))) as client:
        assert client.sandbox.run("4").value == value


@pytest.mark.parametrize(
    ("delivery", "failed"), [(None, {}), ({"failures": {"link": "symbolic link"}}, {"link": "symbolic link"})]
)
def test_files_that_could_not_be_kept_are_told(delivery: dict[str, object] | None, failed: dict[str, str]) -> None:
    with blocking(Wire(answer(ENDED | {"artifact_delivery": delivery}))) as client:
        assert client.sandbox.run("4").failed_files == failed


def test_code_that_fails_is_an_answer() -> None:
    with blocking(Wire(answer(FAILED))) as client:
        ended = client.sandbox.run("1/0")
    assert (ended.is_success, ended.value) == (False, None)


def test_a_session_learns_its_id_from_its_first_run_and_continues_it() -> None:
    wire = Wire(answer(ENDED))
    with blocking(wire) as client:
        session = client.sandbox.session(entity_id="chat-7")
        assert repr(session) == "Session(None)"
        with pytest.raises(ValueError, match="first run"):
            session.files()
        session.run("x = 1")
        assert wire.body == {"code": "x = 1", "lang": "py", "entity_id": "chat-7"}
        session.run("echo", language="bash")
    assert wire.body == {"code": "echo", "lang": "bash", "entity_id": "chat-7", "session_id": SESSION}


def test_files_of_other_sessions_are_named_by_what_told_of_them() -> None:
    told: list[dict[str, Any]] = [
        {"id": FILE, "storage_session_id": SESSION, "path": "a/b.csv", "size": 3},
        {"fileId": FILE, "session_id": SESSION, "filename": "c.csv"},
    ]
    wire = Wire(answer(ENDED))
    with blocking(wire) as client:
        client.sandbox.run("pass", files=told)
    assert wire.body["files"] == [
        {"id": FILE, "storage_session_id": SESSION, "name": "a/b.csv"},
        {"id": FILE, "storage_session_id": SESSION, "name": "c.csv"},
    ]


SIMPLE: list[tuple[str, tuple[Any, ...], str, Any, Any]] = [
    ("files", (), f"GET /v1/code/files/{SESSION}?detail=full", [{"id": FILE}], [{"id": FILE}]),
    ("delete_file", (FILE,), f"DELETE /v1/code/files/{SESSION}/{FILE}", None, None),
    ("variables", (), f"GET /v1/code/sessions/{SESSION}/variables", {"variables": [{"name": "x"}]}, [{"name": "x"}]),
    ("state", (), f"GET /v1/code/state/{SESSION}/info", {"exists": True}, {"exists": True}),
    ("delete_state", (), f"DELETE /v1/code/state/{SESSION}", None, None),
    ("reset", (), f"POST /v1/code/sessions/{SESSION}/reset", {}, None),
    ("interrupt", (), f"POST /v1/code/sessions/{SESSION}/interrupt", {"interrupted": True}, True),
    ("delete", (), f"DELETE /v1/code/sessions/{SESSION}", None, None),
]


@pytest.mark.parametrize(("verb", "arguments", "line", "body", "expected"), SIMPLE)
async def test_a_verb_of_a_session_on_both_clients(
    verb: str, arguments: tuple[Any, ...], line: str, body: Any, expected: Any
) -> None:
    told = httpx.Response(204) if body is None else answer(body)
    wire = Wire(told)
    with blocking(wire) as client:
        assert getattr(client.sandbox.session(SESSION), verb)(*arguments) == expected
    assert f"{wire.requests[-1].method} {wire.requests[-1].url.raw_path.decode()}" == line
    async with asynchronous(wire) as other:
        assert await getattr(other.sandbox.session(SESSION), verb)(*arguments) == expected
    assert wire.requests[-1].url == wire.requests[-2].url.copy_with()


async def test_languages_and_sessions_are_listed_on_both_clients() -> None:
    wire = Wire(answer({"languages": [{"code": "py"}], "sessions": [{"session_id": SESSION}]}))
    with blocking(wire) as client:
        assert client.sandbox.languages() == [{"code": "py"}]
        assert client.sandbox.sessions()[0].session_id == SESSION
    async with asynchronous(wire) as other:
        assert await other.sandbox.languages() == [{"code": "py"}]
        assert (await other.sandbox.sessions())[0].session_id == SESSION


def test_uploads_go_as_a_form_with_the_fields_first(tmp_path: Path) -> None:
    (tmp_path / "ä.csv").write_bytes(b"1,2")
    wire = Wire(answer({"session_id": SESSION, "files": [{"fileId": FILE, "filename": "ä.csv"}]}))
    with blocking(wire) as client:
        session = client.sandbox.session(entity_id="e")
        assert session.upload(tmp_path / "ä.csv").files[0].fileId == FILE
    assert session.session_id == SESSION
    sent = wire.requests[-1].content
    assert sent.index(b'name="entity_id"') < sent.index('filename="ä.csv"'.encode()) < sent.index(b"1,2")


async def test_files_go_into_the_folders_that_the_caller_names_on_both_clients(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.csv").write_text(folder)
    named = {f"data/{folder}/x.csv": tmp_path / folder / "x.csv" for folder in ("a", "b")}
    wire = Wire(answer({"session_id": SESSION, "files": []}))
    with blocking(wire) as client:
        client.sandbox.session().upload(named, tmp_path / "a" / "x.csv", read_only=True)
    async with asynchronous(wire) as other:
        await other.sandbox.session().upload_each(named, str(tmp_path / "a" / "x.csv"), read_only=True)
    for request in wire.requests:
        sent = request.content.decode()
        assert re.findall('filename="(.*?)"', sent) == ["data/a/x.csv", "data/b/x.csv", "x.csv"]
        assert 'name="read_only"\r\n\r\ntrue\r\n' in sent


async def test_files_of_a_skill_are_uploaded_beside_sessions_and_named_in_a_run_on_both_clients(tmp_path: Path) -> None:
    (tmp_path / "SKILL.md").write_text("# How")
    wire = Wire(answer({"session_id": SESSION, "files": [{"fileId": FILE, "filename": "SKILL.md"}]}))
    whose: UploadOptions = {"kind": "skill", "resource_id": "charts", "version": 3}
    with blocking(wire) as client:
        stored = client.sandbox.upload(tmp_path / "SKILL.md", **whose)
    async with asynchronous(wire) as other:
        assert await other.sandbox.upload(tmp_path / "SKILL.md", **whose) == stored
    for request in wire.requests:
        fields = re.findall('name="(kind|id|version)"\r\n\r\n(.*?)\r\n', request.content.decode())
        assert fields == [("kind", "skill"), ("id", "charts"), ("version", "3")]
    wire = Wire(answer(ENDED))
    with blocking(wire) as client:
        client.sandbox.run("pass", files=[{**stored.files[0], "session_id": SESSION, **whose}])
    assert wire.body["files"] == [{"id": FILE, "storage_session_id": SESSION, "name": "SKILL.md", **whose}]


def test_two_files_of_one_name_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    wire = Wire(answer({}))
    with blocking(wire) as client, pytest.raises(ValueError, match="have the same name"):
        client.sandbox.session().upload(tmp_path / "a" / "x.csv", tmp_path / "b" / "x.csv")
    assert wire.requests == []


async def test_a_batch_tells_what_became_of_each_file_on_both_clients(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"1")
    refused = {"session_id": None, "files": [{"status": "error", "filename": "a.csv"}], "succeeded": 0, "failed": 1}
    wire = Wire(answer(refused))
    with blocking(wire) as client:
        session = client.sandbox.session(SESSION)
        assert (session.upload_each(tmp_path / "a.csv").failed, session.session_id) == (1, SESSION)
    async with asynchronous(wire) as other:
        assert (await other.sandbox.session().upload_each(tmp_path / "a.csv")).files[0].status == "error"
    assert {request.url.path for request in wire.requests} == {"/v1/code/upload/batch"}


async def test_a_state_is_sent_as_the_bytes_of_its_file_on_both_clients(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192  # 2 MiB, more than one piece
    (tmp_path / "state").write_bytes(content)
    wire = Wire(httpx.ReadError("gone"), httpx.Response(201, json={"size": len(content), "hash": "a"}))
    with blocking(wire) as client:
        assert client.sandbox.session(SESSION).import_state(tmp_path / "state").size == len(content)
    async with asynchronous(wire) as other:
        assert (await other.sandbox.session(SESSION).import_state(str(tmp_path / "state"))).hash == "a"
    assert [request.content == content for request in wire.requests] == [True] * 3  # the first was sent again
    assert {f"{request.method} {request.url.path}" for request in wire.requests} == {f"POST /v1/code/state/{SESSION}"}


ADMINISTRATION: list[tuple[str, tuple[Any, ...], str, Any, Any]] = [
    ("inventory", (), "GET /v1/admin/sandbox", {"sessions": [{"user": "ada"}], "boxes": []},
     {"sessions": [{"user": "ada"}], "boxes": []}),
    ("kill", (SESSION,), f"POST /v1/admin/sandbox/sessions/{SESSION}/kill", {"killed": True}, True),
    ("kill", ("a/b",), "POST /v1/admin/sandbox/sessions/a%2Fb/kill", {"killed": False}, False),
    ("collect", (), "POST /v1/admin/sandbox/gc", {"sessions": 1, "contents": 2}, {"sessions": 1, "contents": 2}),
    ("collect", (90,), "POST /v1/admin/sandbox/gc?stray_s=90", {"sessions": 0}, {"sessions": 0}),
]  # fmt: skip


@pytest.mark.parametrize(("verb", "arguments", "line", "body", "expected"), ADMINISTRATION)
async def test_a_verb_of_administration_on_both_clients(
    verb: str, arguments: tuple[Any, ...], line: str, body: Any, expected: Any
) -> None:
    wire = Wire(answer(body))
    with blocking(wire) as client:
        assert getattr(client.sandbox, verb)(*arguments) == expected
    assert f"{wire.requests[-1].method} {wire.requests[-1].url.raw_path.decode()}" == line
    async with asynchronous(wire) as other:
        assert await getattr(other.sandbox, verb)(*arguments) == expected
    assert wire.requests[-1].url == wire.requests[-2].url.copy_with()


async def test_a_download_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    wire = Wire(httpx.Response(200, content=b"abc"), httpx.Response(200, content=b"abc"), httpx.Response(404, json={}))
    with blocking(wire) as client:
        target = client.sandbox.session(SESSION).download(FILE, tmp_path / "new" / "a.bin")
        assert target.read_bytes() == b"abc"
    async with asynchronous(wire) as other:
        state = await other.sandbox.session(SESSION).export_state(tmp_path / "state")
        assert state.read_bytes() == b"abc"
        with pytest.raises(Exception, match="404"):
            await other.sandbox.session(SESSION).download(FILE, tmp_path / "absent")
    assert wire.requests[0].url.path == f"/v1/code/download/{SESSION}/{FILE}"
    assert wire.requests[1].url.path == f"/v1/code/state/{SESSION}"
    assert names(tmp_path) == ["new", "state"]


async def test_a_streamed_run_tells_its_events_by_name() -> None:
    begun = ("session", {"session_id": SESSION})
    wire = Wire(events(begun, ("stdout", {"text": "a"}), ("stderr", {"text": "b"}), ("done", ENDED)))
    with blocking(wire) as client:
        session = client.sandbox.session()
        told = session.stream("…")
        assert (next(told).event, session.session_id) == ("session", SESSION)
        rest = list(told)
    assert [one.event for one in rest] == ["stdout", "stderr", "done"]
    assert (rest[0].text, rest[-1].exit_code) == ("a", 0)
    assert wire.body["stream"] is True
    async with asynchronous(wire) as other:
        again = other.sandbox.session()
        assert [one.event async for one in again.stream("…")] == ["session", "stdout", "stderr", "done"]
        assert again.session_id == SESSION


def test_a_stream_that_breaks_raises_what_it_says() -> None:
    wire = Wire(events(("stdout", {"text": "a"}), ("error", {"error": "gone", "code": "box_gone"})))
    with blocking(wire) as client, pytest.raises(ServerError, match="gone"):
        list(client.sandbox.session().stream("…"))


def test_a_run_that_failed_is_done_and_no_broken_stream() -> None:
    with blocking(Wire(events(("done", FAILED)))) as client:
        assert [one.error for one in client.sandbox.session().stream("…")] == ["Sandbox exited with code 1"]
