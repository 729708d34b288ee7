"""`trainyard models list|probe|pull` against canned answers and a hub stand-in."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from trainyard.cli import edge
from trainyard.testing.hub import HubModel, HubStandIn


def card(name: str, *capabilities: str, status: str = "available") -> dict[str, Any]:
    return {
        "id": name, "object": "model", "created": 0, "owned_by": "trainyard", "status": status, "backend": "openai",
        "capabilities": list(capabilities), "aliases": [f"{name}-too"], "root": name, "default": name == "chatty",
        "step": None,
    }  # fmt: skip


CARDS = [
    card("chatty", "generate", "chat"),
    card("writer", "generate"),
    card("vectors", "embed"),
    card("off", "chat", status="off"),
    card("broken", "chat"),
]
FAILURE = {"error": {"message": "The server behind broken failed", "type": "server_error", "code": "upstream_failed"}}


@pytest.fixture
def asked() -> list[tuple[str, Any]]:
    return []


@pytest.fixture
def server(asked: list[tuple[str, Any]]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            bodies: dict[str, Any] = {
                "/v1/models": {"object": "list", "data": CARDS},
                "/models": {"models": ["chatty"]},
            }
            self.answer(200, bodies[self.path])

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append((self.path, body))
            if body["model"] == "broken":
                self.answer(502, FAILURE)
            else:
                model = "chatty" if body["model"] == "vectors" else body["model"]  # as a fallback would
                choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "length"}
                self.answer(200, {"choices": [choice], "model": model, "output": "x", "cached": False, "data": []})

        def answer(self, status: int, body: Any) -> None:
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{http.server_address[1]}"
    http.shutdown()
    thread.join(5)
    http.server_close()


def run(server: str, *arguments: str) -> int:
    return edge.run(["models", *arguments, "--url", server, "--key", "sk-x"])


def test_list_shows_how_models_do_and_what_serves_them(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, "list") == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["MODEL", "STATUS", "BACKEND", "CAPABILITIES", "TRAINABLE", "DEFAULT"]
    assert rows[1] == ["chatty", "available", "openai", "generate, chat", "yes", "yes"]
    assert rows[4] == ["off", "off", "openai", "chat", "no", "no"]
    assert run(server, "list", "--json") == 0
    first = json.loads(capsys.readouterr().out)[0]
    assert first == {
        "model": "chatty", "status": "available", "backend": "openai", "capabilities": ["generate", "chat"],
        "is_trainable": True, "is_default": True,
    }  # fmt: skip


def test_probe_asks_each_model_for_one_token_in_its_own_way(
    server: str, asked: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(server, "probe", "--json") == 7
    printed = capsys.readouterr()
    results = {row["model"]: row for row in json.loads(printed.out)}
    assert [(path, body["model"]) for path, body in asked[:3]] == [
        ("/v1/chat/completions", "chatty"),
        ("/v1/generate", "writer"),
        ("/v1/embeddings", "vectors"),
    ]
    assert (asked[0][1]["max_tokens"], asked[1][1]["max_new_tokens"]) == (1, 1)
    assert {name: row["ok"] for name, row in results.items()} == {
        "chatty": True, "writer": True, "vectors": True, "broken": False,
    }  # fmt: skip
    assert (results["broken"]["code"], results["chatty"]["error"]) == ("upstream_failed", None)
    assert results["chatty"]["latency_ms"] > 0
    assert "1 of 4 models failed: broken" in printed.err


def test_probe_of_one_model_takes_its_alias(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, "probe", "writer-too") == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == ["MODEL", "BACKEND", "MS", "RESULT"]
    assert (rows[1][0], rows[1][3]) == ("writer", "ok")


def test_probe_tells_who_answered_in_the_place_of_another(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, "probe", "vectors") == 0
    assert capsys.readouterr().out.splitlines()[1].split("\t")[3] == "ok, answered by its fallback chatty"


def test_probe_of_a_model_that_is_not_there_lists_those_that_are(
    server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(server, "probe", "nobody") == 2
    assert "no model 'nobody'; it has: chatty, writer, vectors, off, broken" in capsys.readouterr().err


@pytest.fixture
def hub() -> Iterator[HubStandIn]:
    files = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer.json": b"{}", "model.bin": b"no"}
    model = HubModel(files)
    model.branches["v1"] = model.commit
    with HubStandIn({"yard/small": model}).serving() as serving:
        yield serving


def test_pull_says_what_it_did_and_what_to_write(
    hub: HubStandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["models", "pull", "yard/small", "--endpoint", hub.url, "--hub-cache", str(tmp_path)]
    assert edge.run(arguments) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"yard/small at {hub.models['yard/small'].commit[:12]}: 3 files, 0.0 MiB to fetch"
    assert out[2] == "models.yaml: - {name: yard/small}"
    assert (Path(out[1].removeprefix("in ")) / "model.safetensors").read_bytes() == b"weights"
    assert edge.run([*arguments, "--revision", "v1"]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("models.yaml: - {name: yard/small, path: /")
    assert edge.run([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["name"], told["fetched_bytes"], len(told["files"])) == ("yard/small", 0, 3)


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [("yard/none", 4, "The hub has no model yard/none"), ("x" * 200, 2, "is no name of a model")],
)
def test_pull_ends_with_the_code_of_its_error(
    hub: HubStandIn, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, code: int, says: str
) -> None:
    assert edge.run(["models", "pull", name, "--endpoint", hub.url, "--hub-cache", str(tmp_path)]) == code
    assert says in capsys.readouterr().err
