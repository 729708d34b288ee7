"""Sessions, their variables and states."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.contract.sandbox.routes.conftest import Open, Yard


def run(yard: Yard, code: str, **fields: Any) -> dict[str, Any]:
    answer = yard.client.post("/exec", json={"lang": "py", "code": code, **fields})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_sessions_are_listed_and_shown_to_their_owner(open_yard: Open) -> None:
    with open_yard() as yard:
        first = run(yard, "x = 1", entity_id="e1")["session_id"]
        second = run(yard, "y = 1; open('f','w').close()")["session_id"]
        for session in (first, second):  # a checkpoint in between would be another size
            assert yard.client.get(f"/state/{session}").status_code == 200
        listed = yard.client.get("/sessions").json()["sessions"]
        assert {one["session_id"] for one in listed} == {first, second}
        shown = yard.client.get(f"/sessions/{second}").json()
        assert shown == next(one for one in listed if one["session_id"] == second)
        assert (shown["files"], shown["is_live"], shown["kind"], shown["entity_id"]) == (1, True, "user", None)
        assert yard.client.delete(f"/sessions/{first}").status_code == 204
        assert yard.client.get(f"/sessions/{first}").status_code == 404
        assert yard.stranger.get("/sessions", headers=yard.headers("bert")).json() == {
            "sessions": [],
            "has_more": False,
        }


def test_variables_are_listed_and_reset_takes_them_away_but_no_files(yard: Yard) -> None:
    session = run(yard, "x = [1, 2]; open('kept','w').close()")["session_id"]
    (shown,) = yard.client.get(f"/sessions/{session}/variables").json()["variables"]
    assert (shown["name"], shown["type"], shown["preview"]) == ("x", "list", "[1, 2]")
    assert yard.client.post(f"/sessions/{session}/reset").status_code == 204
    assert yard.client.get(f"/sessions/{session}/variables").json()["variables"] == []
    done = run(yard, "import os; print('x' in globals(), os.listdir('.'))", session_id=session)
    assert (done["stdout"], done["runtime_status"]) == ("False ['kept']\n", "new")


def test_what_runs_is_interrupted_and_keeps_its_variables(yard: Yard) -> None:
    session = run(yard, "x = 1")["session_id"]
    assert yard.client.post(f"/sessions/{session}/interrupt").json() == {"session_id": session, "interrupted": False}
    with ThreadPoolExecutor() as pool:
        running = pool.submit(run, yard, "x = 2\nimport time\nwhile True: time.sleep(0.01)", session_id=session)
        while not yard.client.post(f"/sessions/{session}/interrupt").json()["interrupted"]:
            assert not running.done()
        done = running.result(timeout=15)
    assert (done["reason"], done["error"]) == ("interrupted", "Execution interrupted")
    assert "KeyboardInterrupt" in done["stderr"]
    assert run(yard, "print(x in (1, 2))", session_id=session)["stdout"] == "True\n"


def test_a_state_is_exported_once_and_imported_elsewhere(yard: Yard) -> None:
    source = run(yard, "x = {'a': [1, 2.5]}; f = lambda: 7")["session_id"]
    exported = yard.client.get(f"/state/{source}")
    assert exported.headers["content-type"] == "application/octet-stream"
    etag = exported.headers["etag"]
    info = yard.client.get(f"/state/{source}/info").json()
    assert (info["exists"], f'"{info["hash"]}"', info["size_bytes"]) == (True, etag, len(exported.content))
    assert sorted(info["kept"]) == ["f", "x"]
    for form in (etag, etag.strip('"'), f"W/{etag}"):  # quoted or bare
        again = yard.client.get(f"/state/{source}", headers={"If-None-Match": form})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    target = run(yard, "y = 1")["session_id"]
    imported = yard.client.post(f"/state/{target}", content=exported.content)
    assert (imported.status_code, imported.json()["message"]) == (201, "state_uploaded")
    assert imported.json()["size"] == len(exported.content)
    done = run(yard, "print(x, f(), 'y' in globals())", session_id=target)
    assert (done["stdout"], sorted(done["restored"])) == ("{'a': [1, 2.5]} 7 False\n", ["f", "x"])


def test_a_state_that_is_removed_is_gone(yard: Yard) -> None:
    session = run(yard, "x = 1")["session_id"]
    assert yard.client.delete(f"/state/{session}").status_code == 204
    info = yard.client.get(f"/state/{session}/info").json()
    assert (info["exists"], info["source"], info["hash"], info["size_bytes"]) == (False, "none", None, 0)
    assert yard.client.get(f"/state/{session}").status_code == 404
    assert run(yard, "print('x' in globals())", session_id=session)["stdout"] == "False\n"
