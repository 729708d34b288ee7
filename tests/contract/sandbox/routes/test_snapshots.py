"""The wire answers, generation by generation of LibreChat's clients, held against files.

`tests/snapshots/sandbox/` has one file per generation: what its client sends, and what comes back. Ids, times and
measurements are replaced by their names. A change there is a change for clients: look at it, then write the files
anew with `TRAINYARD_WRITE_SNAPSHOTS=1`.
"""

from typing import Any

import pytest

from tests.contract.sandbox.routes.conftest import Yard
from tests.services import snapshots
from tests.services.snapshots import Mask

UPLOAD: dict[str, list[dict[str, Any]]] = {
    "a": [{"name": "entity_id", "value": "agent_1"}, {"file": "data.csv"}],
    "b": [{"name": "entity_id", "value": "agent_1"}, {"file": "data.csv"}],
    "c": [
        {"name": "kind", "value": "user"},
        {"name": "id", "value": "anna"},
        {"name": "read_only", "value": "false"},
        {"file": "data.csv"},
    ],
}
CODE = "import os\nopen('out.txt', 'w').write(open('data.csv').read() * 2)\nprint(sorted(os.listdir('.')))"


class Recorder:
    """Sends what a client sends, and writes down what comes back."""

    def __init__(self, yard: Yard, generation: str, key: str) -> None:
        self._yard, self._generation, self._key = yard, generation, key
        self.mask = Mask({key: "<key>"})
        self.exchanges: list[dict[str, Any]] = []

    def send(self, method: str, path: str, **given: Any) -> Any:
        """Send a request as the client of this generation does."""
        headers = {"User-Agent": "LibreChat/1.0"}
        by_package = path == "/exec" or path.endswith("detail=full")  # the other calls are those of the chat's backend
        if self._generation == "c":
            headers |= {"Authorization": f"Bearer {self._key}"}
        elif self._generation == "a" or not by_package:
            headers |= {"X-API-Key": self._key}
        if self._generation != "c" and path == "/exec":
            given["json"] = {**given["json"], "LIBRECHAT_CODE_API_KEY": self._key}
        answer = self._yard.stranger.request(method, path, headers=headers, **given)
        is_json = answer.headers.get("content-type", "").startswith("application/json")
        body = answer.json() if is_json else answer.text
        sent = {"method": method, "path": path, **({"body": given["json"]} if "json" in given else {})}
        self.exchanges.append(self.mask.plain({"sent": sent, "status": answer.status_code, "answer": body}))
        return body


def form(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Write a form as npm's `form-data` does."""
    lines = []
    for part in parts:
        if "file" in part:
            head = f'form-data; name="file"; filename="{part["file"]}"\r\nContent-Type: text/csv'
            lines.append(f"--b\r\nContent-Disposition: {head}\r\n\r\n1,2\n\r\n")
        else:
            lines.append(f'--b\r\nContent-Disposition: form-data; name="{part["name"]}"\r\n\r\n{part["value"]}\r\n')
    return {"content": "".join([*lines, "--b--\r\n"]).encode()}


def reference(generation: str, session: str, file: str) -> dict[str, Any]:
    """Name a file as the client does."""
    if generation == "c":
        return {"id": file, "resource_id": "anna", "storage_session_id": session, "name": "data.csv", "kind": "user"}
    return {"id": file, "session_id": session, "name": "data.csv"}


def talk(recorder: Recorder, yard: Yard, generation: str, uploaded: dict[str, Any]) -> None:
    """Do what LibreChat does with a file of a chat: look, run, fetch what came out, run what fails."""
    session, file = uploaded["session_id"], uploaded["files"][0]["fileId"]
    query = "?kind=user&id=anna" if generation == "c" else ""
    if generation == "c":
        recorder.send("GET", f"/sessions/{session}/objects/{file}{query}")
    else:
        recorder.send("GET", f"/files/{session}?detail=summary&entity_id=agent_1")
        recorder.send("GET", f"/files/{session}?detail=full")
    more = {} if generation == "c" else {"user_id": "u1"}
    body = {"lang": "py", "code": CODE, **more, "files": [reference(generation, session, file)]}
    done = recorder.send("POST", "/exec", json=body)
    made = next(one for one in done["files"] if one["name"] == "out.txt")
    recorder.send("GET", f"/download/{made['session_id']}/{made['id']}{query}")
    recorder.send("POST", "/exec", json={"lang": "bash", "code": "cat missing", **more})
    recorder.send("POST", "/exec", json={"lang": "cobol", "code": "x", **more})
    recorder.send("DELETE", f"/files/{session}/{file}{query}")


@pytest.mark.parametrize("generation", ["a", "b", "c"])
def test_the_wire_of_a_generation_is_as_it_was(yard: Yard, generation: str) -> None:
    key = yard.headers("anna")["X-API-Key"]
    recorder = Recorder(yard, generation, key)
    headers = {"X-API-Key": key, "Content-Type": "multipart/form-data; boundary=b"}
    uploaded = yard.stranger.post("/upload", headers=headers, **form(UPLOAD[generation])).json()
    recorder.exchanges.append(recorder.mask.plain({"sent": {"form": UPLOAD[generation]}, "answer": uploaded}))
    talk(recorder, yard, generation, uploaded)
    snapshots.hold(f"sandbox/librechat-{generation}.json", recorder.exchanges)
