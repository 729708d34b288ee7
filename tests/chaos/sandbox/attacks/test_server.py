"""Attacks over HTTP: states, uploads, names, outputs and other people's sessions."""

import hashlib
import json
import pickle
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.chaos.sandbox.attacks.attempts import PRELUDE
from tests.chaos.sandbox.attacks.serving import Attacked, Caller, attacked


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Attacked]:
    with attacked(tmp_path_factory.mktemp("attacked")) as made:
        yield made


@pytest.fixture
def attacker(yard: Attacked) -> Iterator[Caller]:
    """Who attacks; he and his neighbour are served afterwards."""
    yield yard.attacker
    yard.attacker.is_well()
    yard.neighbour.is_well()


def session_of(caller: Caller, code: str = "x = 1") -> str:
    return str(caller.run(code)["session_id"])


def state(*variables: tuple[str, bytes], **header: Any) -> bytes:
    """Make a checkpoint of pickles by hand."""
    pickles = b"".join(content for _, content in variables)
    fields = {
        "python": "3.11.0",
        "pickles_sha256": hashlib.sha256(pickles).hexdigest(),
        "variables": [{"name": name, "bytes": len(content), "buffers": []} for name, content in variables],
        **header,
    }
    text = json.dumps(fields).encode()
    return struct.pack("!BI", 3, len(text)) + text + pickles


class Calling:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def dumped(value: Any) -> bytes:
    return pickle.dumps((value,), protocol=5)


def test_importing_a_state_that_runs_a_program(yard: Attacked, attacker: Caller) -> None:
    mark = yard.server.data_dir.parent / "evil"
    session = session_of(attacker)
    content = state(("a", dumped(Calling(exec, f"import os\nos.system('touch {mark}; id > /tmp/id')"))))

    assert attacker.http.post(f"/state/{session}", content=content).status_code == 201
    after = attacker.run("print(open('/tmp/id').read())", session_id=session)

    assert "uid=1000(sandbox)" in after["stdout"], "it ran in the box"
    assert not mark.exists(), "and nowhere else"


@pytest.mark.parametrize(
    "call",
    [
        "import os; os._exit(0)",
        "import os; os.kill(1, 9)",
        "while True: pass",
        "import ctypes; ctypes.string_at(0)",
        "x = []\nwhile True: x.append(bytearray(1 << 20))",
        "raise SystemExit",
        "raise KeyboardInterrupt",
    ],
)
def test_importing_a_state_that_ends_whoever_reads_it(attacker: Caller, call: str) -> None:
    session = session_of(attacker)
    hang = call.replace("while True: pass", "import time\nend = time.time() + 2\nwhile time.time() < end: pass")
    content = state(("a", dumped(Calling(exec, hang))), ("b", dumped(1)))

    assert attacker.http.post(f"/state/{session}", content=content).status_code == 201
    answer = attacker.http.post("/exec", json={"code": "print(1)", "lang": "py", "session_id": session})

    assert answer.status_code in (200, 409), answer.text
    attacker.http.delete(f"/sessions/{session}")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x03",
        b"\x03\xff\xff\xff\xff",
        b"\x01" + zlib.compress(bytes(1 << 20)),
        b"\x02" + b"\x04\x22\x4d\x18" + bytes(100),
        struct.pack("!BI", 3, 1 << 24) + b" " * 100,
        struct.pack("!BI", 3, 200_000) + b"[" * 200_000,
        struct.pack("!BI", 3, 10) + b'{"a":"\\u0"',
        state(python="3" * 100_000, pickles_sha256="x") + b"more",
        state(variables=[{"name": "a", "bytes": 1 << 47, "buffers": [1 << 47] * 1000}]),
        state(variables=[{"name": "a", "bytes": -1, "buffers": []}]),
        state(variables=[{"name": "a", "bytes": 10**400, "buffers": []}]),
        state(variables={"a": 1}),
        pickle.dumps(Calling(exec, "1/0")),
    ],
    ids=range(14),
)
def test_importing_a_state_that_is_none(attacker: Caller, content: bytes) -> None:
    answer = attacker.http.post(f"/state/{session_of(attacker)}", content=content)

    assert answer.status_code in (400, 413), answer.text


@pytest.mark.parametrize("name", ["__builtins__", "a b", "a\0b", "é" * 5000, "\ud800", "print('x')", ""])
def test_importing_a_variable_with_an_odd_name(attacker: Caller, name: str) -> None:
    session = session_of(attacker)

    answer = attacker.http.post(f"/state/{session}", content=state((name, dumped(1))))
    assert answer.status_code in (201, 400), answer.text
    after = attacker.run("print(print, sorted(k for k in globals() if k[:2] != '__'))", session_id=session)
    assert after["stdout"].startswith("<built-in function print> [")
    assert attacker.http.get(f"/state/{session}/info").status_code == 200


def test_importing_a_state_that_takes_long_to_look_at(yard: Attacked, attacker: Caller) -> None:
    session = session_of(attacker)
    content = state(variables=[{"name": f"v{number}", "bytes": 0, "buffers": []} for number in range(300_000)])
    slowest_s, is_over = 0.0, threading.Event()

    def ask() -> None:
        nonlocal slowest_s
        while not is_over.is_set():
            began_s = time.monotonic()
            yard.neighbour.is_well()
            slowest_s = max(slowest_s, time.monotonic() - began_s)

    asking = threading.Thread(target=ask)
    asking.start()
    statuses = {attacker.http.post(f"/state/{session}", content=content).status_code for _ in range(3)}
    is_over.set()
    asking.join()

    assert statuses <= {400, 413, 201}
    assert slowest_s < 1


@pytest.mark.parametrize(
    "code",
    [
        "class A:\n    def __reduce__(self): import os; os._exit(0)\na = A()",
        "class A:\n    def __reduce__(self): return bytes, (1 << 33,)\na = A()",
        (
            "class A:\n    def __reduce__(self): return A, ()\n    def __new__(cls):\n"
            "        import os; os.kill(0, 9)\na = object.__new__(A)"
        ),
        "a = []\nfor _ in range(100000): a = [a]",
        "a = 'x' * (300 << 20)",
        "globals()['a\\0b'] = 1; globals()['\\ud800'] = 2; globals()[5] = 3; globals()['x' * (1 << 20)] = 4",
    ],
)
def test_making_a_checkpoint_that_hurts_its_writer(attacker: Caller, code: str) -> None:
    session = session_of(attacker, code)

    answer = attacker.http.get(f"/state/{session}")
    assert answer.status_code in (200, 404, 409), answer.text
    assert attacker.http.get(f"/sessions/{session}/variables").status_code in (200, 409)
    attacker.http.delete(f"/sessions/{session}")


@pytest.mark.parametrize(
    "name",
    [
        "../../evil",
        "/etc/passwd",
        "a/../../b",
        "..",
        ".",
        "a\0b",
        "C:\\evil",
        "\u202etxt.exe",
        "a\nb",
        "x" * 5000,
        "con",
        "~",
        "-rf",
    ],
)
def test_uploading_a_file_with_a_name_that_leads_out(yard: Attacked, attacker: Caller, name: str) -> None:
    before = sorted(yard.server.data_dir.parent.iterdir())

    answer = attacker.http.post("/upload", files=[("file", (name, b"evil"))])

    assert answer.status_code in (200, 400, 413, 422), answer.text
    assert sorted(yard.server.data_dir.parent.iterdir()) == before
    if answer.status_code == 200:
        kept = answer.json()
        listed = attacker.run(
            "import os\nprint([os.path.join(a, f) for a, _, fs in os.walk('/mnt/data') for f in fs])",
            files=[{"id": kept["files"][0]["fileId"], "storage_session_id": kept["session_id"]}],
        )
        assert listed["stdout"].count("/mnt/data/") == 1


def test_naming_an_input_so_that_it_lies_elsewhere(attacker: Caller) -> None:
    kept = attacker.http.post("/upload", files=[("file", ("a", b"evil"))]).json()
    file = {"id": kept["files"][0]["fileId"], "storage_session_id": kept["session_id"]}

    for name in ("../tmp/evil", "/opt/sandbox/evil", "a/../../b", "x\0y"):
        answer = attacker.http.post("/exec", json={"code": "1", "lang": "py", "files": [file | {"name": name}]})
        assert answer.status_code in (200, 400, 422), answer.text
        if answer.status_code == 200:
            after = attacker.run(
                "import os\nprint(os.path.exists('/tmp/evil'))", session_id=answer.json()["session_id"]
            )
            assert after["stdout"] == "False\n"


@pytest.mark.parametrize(
    "name", ["a\\r\\nX-Evil: 1", "a\\nSet-Cookie: x=1", 'a\\"; filename=\\"b', "<script>.html", "\\x1b[2J", "\\u202e"]
)
def test_writing_into_the_headers_of_a_download(attacker: Caller, name: str) -> None:
    done = attacker.run(f'open("{name}", "w").write("x")')

    for file in done["files"]:
        answer = attacker.http.get(f"/download/{done['session_id']}/{file['id']}")
        assert answer.status_code == 200
        assert not {"x-evil", "set-cookie"} & answer.headers.keys()
        assert answer.headers["content-disposition"].startswith("attachment; ")
        assert "sandbox" in answer.headers["content-security-policy"]
    assert attacker.http.get(f"/files/{done['session_id']}").status_code == 200


@pytest.mark.parametrize("target", ["/etc/passwd", "/etc/shadow", "/proc/self/environ", "/proc/1/root", "."])
def test_having_the_server_read_through_a_link(attacker: Caller, target: str) -> None:
    done = attacker.run(
        f"import os\nos.symlink({target!r}, 'data.txt')\nos.mkfifo('pipe')\nopen('real', 'w').write('x')"
    )

    assert [file["name"] for file in done["files"]] == ["real"]


@pytest.mark.parametrize(
    "lie",
    [
        "{'kind': 'execute_result', 'data': {'text/plain': 'x'}, 'file': '/etc/passwd'}",
        "{'kind': 'display_data', 'data': {'image/png': 'x'}, 'file': '../../etc/shadow'}",
        "{'kind': 'display_data', 'data': {'text/html': '\\x00\\ud800'}}",
        "{'kind': 'display_data', 'data': {'a' * 100000: 'b'}}",
    ],
)
def test_showing_a_result_that_names_a_file_of_the_server(attacker: Caller, lie: str) -> None:
    code = (
        f"{PRELUDE}import json\nhere = sys._getframe()\nwhile 'order' not in here.f_locals: here = here.f_back\n"
        f"head = {{'id': here.f_locals['order']['id'], 'event': 'done', 'exit_code': 0, 'variables': 1,\n"
        f"        'is_fresh': False, 'results': [{lie}]}}\nhead = json.dumps(head).encode()\n"
        "for link in links(): os.write(link, struct.pack('!II', len(head), 0) + head)\ntime.sleep(5)"
    )

    done = attacker.run(code, timeout=3000)

    assert done["files"] == []
    assert "root:" not in json.dumps(done)


@pytest.mark.parametrize(
    "path", ["/files/{s}", "/state/{s}", "/state/{s}/info", "/download/{s}/{f}", "/sessions/{s}/objects/{f}"]
)
def test_reading_what_another_tenant_has(yard: Attacked, attacker: Caller, path: str) -> None:
    theirs = yard.neighbour.run("secret = 'canary'\nopen('f', 'w').write(secret)")
    url = path.format(s=theirs["session_id"], f=theirs["files"][0]["id"])

    answer = attacker.http.get(url)

    assert answer.status_code == 404
    assert b"canary" not in answer.content


def test_going_on_with_the_session_of_another_tenant(yard: Attacked, attacker: Caller) -> None:
    theirs = yard.neighbour.run("secret = 'canary'\nopen('f', 'w').write(secret)")
    session, file = theirs["session_id"], theirs["files"][0]["id"]
    asked = [
        ("POST", "/exec", {"code": "print(secret)", "lang": "py", "session_id": session}),
        ("POST", "/exec", {"code": "1", "lang": "py", "files": [{"id": file, "storage_session_id": session}]}),
        ("DELETE", f"/sessions/{session}", None),
        ("DELETE", f"/state/{session}", None),
        ("DELETE", f"/files/{session}/{file}", None),
        ("POST", f"/sessions/{session}/interrupt", None),
        ("POST", f"/sessions/{session}/reset", None),
        ("POST", f"/state/{session}", None),
    ]

    answers = [attacker.http.request(method, url, json=body) for method, url, body in asked]

    assert all("canary" not in answer.text for answer in answers)
    assert {answer.status_code for answer in answers[2:]} <= {400, 404, 405}
    assert answers[0].status_code == 404
    assert yard.neighbour.run("print(secret, open('f').read())", session_id=session)["stdout"] == "canary canary\n"


def test_sharing_the_name_of_a_session_with_another_tenant(yard: Attacked, attacker: Caller) -> None:
    yard.neighbour.run("secret = 'canary'", entity_id="shared")

    assert "NameError" in attacker.run("print(secret)", entity_id="shared")["stderr"]


def test_learning_by_the_clock_whether_a_session_exists(yard: Attacked, attacker: Caller) -> None:
    session = session_of(yard.neighbour)
    times_s: dict[str, list[float]] = {session: [], f"a{session[1:-1]}b": []}
    texts = set()
    for _ in range(60):
        for asked, found in times_s.items():
            began_s = time.perf_counter()
            answer = attacker.http.get(f"/files/{asked}")
            found.append(time.perf_counter() - began_s)
            texts.add((answer.status_code, answer.text.replace(asked, "").split('"request_id"')[0]))
    there_s, absent_s = (sorted(found)[20] for found in times_s.values())

    assert len({status for status, _ in texts}) == 1
    assert 1 / 3 < there_s / absent_s < 3


@pytest.mark.parametrize("field", ["cpu_s", "log"])
def test_filling_the_store_of_the_tenant(attacker: Caller, field: str) -> None:
    code = {
        "cpu_s": "import os\nfor n in range(40):\n    with open(f'f{n}', 'wb') as f: f.truncate(200 << 20)",
        "log": "import os\nfor _ in range(300): os.write(1, b'x' * 65536)",
    }[field]

    done = attacker.run(code)

    assert len(done["stdout"]) < 1 << 20
    attacker.http.delete(f"/sessions/{done['session_id']}")


def test_leaving_while_the_run_goes_on(attacker: Caller) -> None:
    for _ in range(5):
        with pytest.raises(httpx.ReadTimeout):
            attacker.http.post("/exec", json={"code": "while True: pass", "lang": "py"}, timeout=0.3)
