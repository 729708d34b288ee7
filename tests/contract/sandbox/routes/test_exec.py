"""POST /exec over a real interpreter."""

import json
from typing import Any

import httpx2
import pytest

from tests.contract.sandbox.routes.conftest import Open, Yard

SILENT = "import os; os.kill(os.getpid(), 11)"


def run(yard: Yard, code: str, **fields: Any) -> dict[str, Any]:
    """Run Python."""
    answer = yard.client.post("/exec", json={"lang": "py", "code": code, **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("base", ["", "/v1/code"])
def test_code_runs_at_the_root_and_under_librechats_base(yard: Yard, base: str) -> None:
    answer = yard.client.post(f"{base}/exec", json={"lang": "py", "code": "print(1+1)"})
    assert (answer.status_code, answer.json()["stdout"]) == (200, "2\n")


def test_variables_stay_in_the_session(yard: Yard) -> None:
    first = run(yard, "x = 42")
    assert (first["runtime_status"], first["has_state"]) == ("new", True)
    second = run(yard, "print(x)", session_id=first["session_id"])
    assert (second["stdout"], second["runtime_status"]) == ("42\n", "reused")
    assert second["runtime_session_id"] == second["storage_session_id"] == second["session_id"] == first["session_id"]


@pytest.mark.parametrize("name", ["entity_id", "runtime_session_hint"])
def test_a_name_of_the_callers_own_finds_the_session_again(yard: Yard, name: str) -> None:
    first = run(yard, "x = 1", **{name: "conversation-7"})
    assert run(yard, "print(x)", **{name: "conversation-7"})["stdout"] == "1\n"
    assert run(yard, "print('x' in globals())", **{name: "conversation-8"})["stdout"] == "False\n"
    other = yard.client.post(
        "/exec",
        json={"lang": "py", "code": "print('x' in globals())", name: "conversation-7"},
        headers=yard.headers("bert"),
    )
    assert other.json()["stdout"] == "False\n"
    assert other.json()["session_id"] != first["session_id"]


def test_what_code_is_given(yard: Yard) -> None:
    code = "import os, sys; print(sys.argv[1:], sys.stdin.read(), os.environ['SIZE'])"
    assert run(yard, code, args=["a", "b c"], stdin="in ü", env={"SIZE": "7"})["stdout"] == "['a', 'b c'] in ü 7\n"


def test_streams_stay_apart_and_success_says_nothing_of_a_fault(yard: Yard) -> None:
    done = run(yard, "import sys; print('out'); print('err', file=sys.stderr)")
    assert (done["stdout"], done["stderr"]) == ("out\n", "err\n")
    assert (done["exit_code"], done["error"], done["reason"], done["signal"]) == (0, None, None, None)
    assert (done["stdout_bytes"], done["stderr_bytes"], done["phase"], done["language"]) == (4, 4, "run", "py")


@pytest.mark.parametrize(
    ("code", "expected", "stderr_ends"),
    [
        (
            "raise SystemExit(3)",
            {"exit_code": 3, "error": "Sandbox exited with code 3"},
            "Sandbox exited with code 3\n",
        ),
        ("1/0", {"exit_code": 1, "error": "Sandbox exited with code 1"}, "ZeroDivisionError: division by zero\n"),
        (
            SILENT,
            {"exit_code": None, "signal": "SIGSEGV", "error": "Sandbox exited with code -11"},
            "Sandbox exited with code -11\n",
        ),
        (
            "print('begun', flush=True)\nwhile True: pass",
            {"reason": "timeout", "error": "Time limit exceeded", "stdout": "begun\n"},
            "Time limit exceeded\n",
        ),
    ],
)
def test_code_that_fails_is_an_answer_in_the_words_that_librechat_knows(
    yard: Yard, code: str, expected: dict[str, object], stderr_ends: str
) -> None:
    done = run(yard, code, timeout_s=1.5)
    assert {name: done[name] for name in expected} == expected
    assert done["stderr"].endswith(stderr_ends)


def test_a_timeout_in_milliseconds_is_librechats(yard: Yard) -> None:
    assert run(yard, "while True: pass", timeout=500)["reason"] == "timeout"


def test_the_last_value_comes_as_a_notebook_has_it(yard: Yard) -> None:
    done = run(yard, "6 * 7")
    assert done["results"] == [
        {"output_type": "execute_result", "data": {"text/plain": "42"}, "metadata": {}, "file": None}
    ]
    assert run(yard, "6 * 7", results=False)["results"] == []


def test_new_changed_inherited_and_deleted_files_are_told_apart(yard: Yard) -> None:
    first = run(yard, "import os; os.mkdir('d'); open('d/a.txt','w').write('1'); open('b.txt','w').write('2')")
    assert [file["name"] for file in first["files"]] == ["b.txt", "d/a.txt"]
    refs = [
        {"id": file["id"], "storage_session_id": file["storage_session_id"], "name": file["name"]}
        for file in first["files"]
    ]
    code = "import os; open('d/a.txt','a').write('3'); open('c.txt','w').write('4'); os.remove('b.txt')"
    second = run(yard, code, session_id=first["session_id"], files=refs)
    assert {file["name"]: "inherited" in file for file in second["files"]} == {"c.txt": False, "d/a.txt": False}
    assert second["deleted_files"] == ["b.txt"]
    changed = next(file for file in second["files"] if file["name"] == "d/a.txt")
    assert changed["id"] == first["files"][1]["id"]  # in place
    assert yard.client.get(f"/download/{changed['session_id']}/{changed['id']}").text == "13"


def test_a_run_that_fails_registers_no_files(yard: Yard) -> None:
    done = run(yard, "open('a.txt','w').write('1'); 1/0")
    assert done["files"] == []
    assert yard.client.get(f"/files/{done['session_id']}").json() == []


def test_an_output_that_is_too_long_keeps_its_ends_and_the_whole_is_a_file(open_yard: Open) -> None:
    with open_yard(sandbox={"limits": {"output_bytes": 1024, "timeout_s": 20}}) as yard:
        done = run(yard, "print('begin'); print('x' * 5000); print('end')")
        assert done["stdout"].startswith("begin\n")
        assert done["stdout"].endswith("end\n")
        assert (len(done["stdout"]) < 1200, done["stdout_bytes"]) == (True, 5011)
        (log,) = done["logs"]
        assert len(yard.client.get(f"/download/{log['session_id']}/{log['id']}").content) == 5011


# ---------------------------------------------------------------- events


def events(answer: httpx2.Response) -> list[tuple[str, dict[str, Any]]]:
    """Read server-sent events; comments are left out."""
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in answer.text.split("\n\n"):
        lines = [line.partition(": ") for line in block.splitlines() if not line.startswith(":")]
        fields = {name: value for name, _, value in lines}
        if fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


@pytest.mark.parametrize("asked", [{"body": {"stream": True}}, {"headers": {"Accept": "text/event-stream"}}])
def test_output_is_streamed_and_ends_with_the_whole_answer(yard: Yard, asked: dict[str, Any]) -> None:
    code = "import sys\nfor n in range(3): print(n, flush=True)\nprint('ü', file=sys.stderr)\n'last'"
    body = {"lang": "py", "code": code, **asked.get("body", {})}
    found = events(yard.client.post("/exec", json=body, headers=asked.get("headers")))
    texts = {name: "".join(data["text"] for kind, data in found if kind == name) for name in ("stdout", "stderr")}
    assert texts == {"stdout": "0\n1\n2\n", "stderr": "ü\n"}
    assert found[-1][0] == "done"
    assert found[0] == ("session", {"session_id": found[-1][1]["session_id"]})
    assert found[-1][1]["stdout"] == "0\n1\n2\n"
    assert [data["data"]["text/plain"] for kind, data in found if kind == "result"] == ["'last'"]


def test_a_fault_before_the_code_begins_is_an_answer_with_its_status(yard: Yard) -> None:
    answer = yard.client.post("/exec", json={"lang": "cobol", "code": "x", "stream": True})
    assert (answer.status_code, answer.json()["code"]) == (400, "unsupported_language")


def test_the_events_of_code_that_fails_end_with_done(yard: Yard) -> None:
    found = events(yard.client.post("/exec", json={"lang": "py", "code": "1/0", "stream": True}))
    assert (found[-1][0], found[-1][1]["exit_code"]) == ("done", 1)
