"""Every command that talks to a server, against a real one."""

import io
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from trainyard.cli import edge
from trainyard.testing.plugin import LiveServer

Run = Callable[..., str]

RUN_ID = "run_0000000000000000"


@contextmanager
def piped(text: str) -> Iterator[None]:
    """Put a text in the place of standard input."""
    before, sys.stdin = sys.stdin, io.StringIO(text)
    try:
        yield
    finally:
        sys.stdin = before


@pytest.fixture(autouse=True)
def address(live_server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_URL", live_server.url)
    monkeypatch.setenv("TRAINYARD_API_KEY", live_server.key)


@pytest.fixture
def trainyard(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command in this process and gives its standard output."""

    def run(*arguments: str, code: int = 0) -> str:
        found = edge.run(arguments)
        out, err = capsys.readouterr()
        assert found == code, out + err
        return out or err

    return run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve lines in both formats."""
    path = tmp_path / "lines.jsonl"
    chats = [
        {"messages": [{"role": "user", "content": f"Number {n}?"}, {"role": "assistant", "content": f"It is {n}."}]}
        for n in range(10)
    ]
    path.write_text("\n".join(json.dumps(line) for line in [*chats, {"text": "A plain text."}, {"text": "Another."}]))
    return path


@pytest.fixture
def run_id(trainyard: Run, data: Path) -> Iterator[str]:
    """A run that was trained for three steps and has a checkpoint."""
    done = json.loads(trainyard("train", "--data", str(data), "--steps", "3", "--rank", "4", "--json"))
    yield done["run_id"]
    trainyard("runs", "complete", done["run_id"])


def test_train_tells_what_it_does_and_how_to_go_on(trainyard: Run, data: Path) -> None:
    shown = trainyard("train", "--data", str(data), "--epochs", "2", "--batch-size", "4", "--lr", "0.002")
    first, *steps, done, adapter, hint = shown.splitlines()
    run_id = first.partition(":")[0]
    assert first == f"{run_id}: trainyard/pocket, 11 lines to learn, 1 held out, step 0 of 6"
    assert len([line for line in steps if "loss on held-out lines" in line]) == 3  # before, and after each epoch
    assert "  step 6: saved step_6" in steps
    assert done.startswith("done: ")
    assert Path(adapter.removeprefix("adapter: "), "adapter_model.safetensors").is_file()
    assert hint == f"try it: trainyard chat --model {run_id}"
    assert json.loads(trainyard("runs", "complete", run_id, "--json"))["status"] == "completed"


def test_train_as_json_is_one_object(trainyard: Run, data: Path, tmp_path: Path) -> None:
    options = [
        "--steps",
        "4",
        "--validation",
        "2",
        "--eval-every",
        "2",
        "--checkpoint-every",
        "2",
        "--scheduler",
        "cosine",
    ]
    done = json.loads(trainyard("train", "--data", str(data), *options, "--warmup", "1", "--json"))
    assert [entry["step"] for entry in done["validation"]] == [0, 2, 4]
    assert (done["step"], done["is_complete"], done["resume"]) == (4, True, None)
    assert done["tokens_per_s"] > 0
    shown = json.loads(trainyard("runs", "show", done["run_id"], "--json"))
    assert [artifact["step"] for artifact in shown["artifacts"]] == [2, 4]
    assert (shown["current_step"], shown["config"]["lr_total_steps"]) == (4, 4)
    trainyard("runs", "complete", done["run_id"])


def test_a_resumed_training_ends_where_the_uninterrupted_one_does(trainyard: Run, data: Path) -> None:
    options = ["--data", str(data), "--batch-size", "4", "--seed", "3", "--eval-every", "0", "--json"]
    whole = json.loads(trainyard("train", *options, "--steps", "6"))
    half = json.loads(trainyard("train", *options, "--steps", "3"))
    rest = json.loads(trainyard("train", *options, "--steps", "6", "--resume", half["run_id"]))
    nothing_left = trainyard("train", *options[:-1], "--steps", "6", "--resume", half["run_id"])
    assert "done: all 6 steps were made before" in nothing_left
    assert rest["step"] == 6
    assert rest["validation"][-1]["loss"] == pytest.approx(whole["validation"][-1]["loss"], rel=1e-5)
    for done in (whole, half):
        trainyard("runs", "complete", done["run_id"])


def test_a_resumed_run_keeps_its_configuration(trainyard: Run, data: Path) -> None:
    said = trainyard("train", "--data", str(data), "--resume", RUN_ID, "--lr", "0.1", code=2)
    assert "a resumed run keeps the learning_rate that it was made with" in said


def test_bad_lines_are_reported_before_anything_starts(trainyard: Run, data: Path) -> None:
    with data.open("a") as file:
        file.write('\n{"txt": "a"}\n')
    before = trainyard("runs", "list")
    assert "has 1 unusable line: line 13: Must provide one of" in trainyard("train", "--data", str(data), code=2)
    assert trainyard("runs", "list") == before


def test_a_line_longer_than_a_sequence_is_reported_before_anything_is_trained(trainyard: Run, data: Path) -> None:
    with data.open("a") as file:
        file.write("\n" + json.dumps({"text": "many words " * 1500}))
    said = trainyard("train", "--data", str(data), code=2)
    assert "may have 2048 tokens (max_seq_length)" in said
    assert "has 1 longer line: line 13: " in said
    newest = json.loads(trainyard("runs", "list", "--json"))[0]
    assert newest["status"] == "completed"  # the run that could not begin takes no place


def test_ctrl_c_saves_and_prints_the_command_that_continues(trainyard: Run, data: Path) -> None:
    command = [sys.executable, "-m", "trainyard", "train", "--data", str(data), "--steps", "5000", "--validation", "0"]
    training = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(0)  # the first line is awaited below
    assert training.stdout is not None
    run_id = training.stdout.readline().partition(":")[0]
    while not json.loads(trainyard("runs", "show", run_id, "--json"))["current_step"]:
        time.sleep(0.05)
    training.send_signal(signal.SIGINT)
    out, _ = training.communicate(timeout=60)
    assert training.returncode == 130
    shown = json.loads(trainyard("runs", "show", run_id, "--json"))
    assert [artifact["step"] for artifact in shown["artifacts"]] == [shown["current_step"]]
    assert f"stopped at step {shown['current_step']}, saved; continue with" in out
    again = out.splitlines()[-1].split()
    assert again[:6] == ["trainyard", "train", "--data", str(data), "--resume", run_id]
    steps = again.index("--steps") + 1
    again[steps] = str(shown["current_step"] + 1)
    done = json.loads(trainyard(*again[1:], "--json"))
    assert done["step"] == shown["current_step"] + 1
    trainyard("runs", "complete", run_id)


def test_models_and_runs_are_listed(trainyard: Run, run_id: str) -> None:
    models = json.loads(trainyard("models", "list", "--json"))
    trainable = {model["model"]: model["is_trainable"] for model in models}
    assert (trainable["trainyard/pocket"], trainable[run_id]) == (True, False)
    assert "trainyard/pocket\tavailable\tlocal\tgenerate, chat\tyes\tyes" in trainyard("models", "list")
    assert json.loads(trainyard("runs", "list", "--json"))[0]["run_id"] == run_id
    assert trainyard("runs", "list").splitlines()[1].startswith(f"{run_id}\ttrainyard/pocket\tactive\t4\t")
    shown = trainyard("runs", "show", run_id)
    assert "config.lora_r" in shown
    assert "step_3\t3\tadapter\t" in shown


def test_a_checkpoint_is_exported(trainyard: Run, run_id: str, tmp_path: Path) -> None:
    assert trainyard("runs", "export", run_id, "--to", str(tmp_path / "a")) == f"step 3, adapter: {tmp_path / 'a'}\n"
    assert (tmp_path / "a" / "adapter_config.json").is_file()
    merged = ["runs", "export", run_id, "--to", str(tmp_path / "m"), "--mode", "merged", "--json"]
    assert json.loads(trainyard(*merged))["artifact"]["mode"] == "merged"  # saved first, since there was none
    assert (tmp_path / "m" / "model.safetensors").is_file()
    missing = ["runs", "export", run_id, "--to", str(tmp_path / "n"), "--step", "77"]
    assert "has no adapter checkpoint of step 77" in trainyard(*missing, code=4)


def test_generate_continues_a_prompt(trainyard: Run, run_id: str) -> None:
    greedy = ["--max-tokens", "6", "--temperature", "0"]
    text = trainyard("generate", "Once upon a time", *greedy)
    assert text.endswith("\n")
    with piped("Once upon a time"):
        answer = json.loads(trainyard("generate", *greedy, "--json"))
    assert answer == {"model": "trainyard/pocket", "output": text[:-1]}
    assert json.loads(trainyard("generate", "x", "--model", run_id, *greedy, "--json"))["model"] == run_id


def test_a_key_that_cannot_train_lists_and_calls_models(trainyard: Run, live_server: LiveServer) -> None:
    if live_server.data_dir is None:
        pytest.skip("the server at API_BASE is not ours, so that no key can be made")
    made = trainyard("keys", "create", "--data-dir", str(live_server.data_dir), "--scopes", "generate", "--json")
    key = ["--key", json.loads(made)["key"]]
    assert trainyard("models", "list", *key).splitlines()[1].split("\t") == [
        "trainyard/pocket", "available", "local", "generate, chat", "no", "yes"
    ]  # fmt: skip
    for command in (["chat", "-m", "Hello!"], ["generate", "Hello!"]):
        answer = json.loads(trainyard(*command, "--max-tokens", "2", "--json", *key))
        assert answer["model"] == "trainyard/pocket"
    assert "lacks the scope 'train'" in trainyard("runs", "list", *key, code=3)


def test_chat_answers_one_question(trainyard: Run) -> None:
    greedy = ["--max-tokens", "6", "--temperature", "0"]
    text = trainyard("chat", "--message", "Hello!", *greedy)
    with piped("Hello!"):
        assert json.loads(trainyard("chat", *greedy, "--json")) == {"model": "trainyard/pocket", "answer": text[:-1]}


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["runs", "show", RUN_ID], 4, RUN_ID),
        (["generate", "x", "--model", "nobody/nothing"], 2, "trainyard/pocket"),
        (["chat", "-m", "x", "--temperature", "9"], 2, "temperature"),
        (["runs", "list", "--key", "sk-wrong"], 3, "nvalid API key"),
        (["train", "--data", "{data}", "--model", "nobody/nothing"], 2, "trainyard/pocket"),
        (["train", "--data", "{data}", "--rank", "9999"], 2, "lora_r"),
        (["train", "--data", "{data}", "--resume", RUN_ID], 4, RUN_ID),
    ],
)
def test_what_the_server_refuses_is_one_line(
    trainyard: Run, data: Path, arguments: list[str], code: int, says: str
) -> None:
    said = trainyard(*(str(data) if word == "{data}" else word for word in arguments), code=code)
    assert says in said
    assert said.count("\n") == 1


def test_the_doctor_looks_at_this_machine(trainyard: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_SERVER__PORT", "0")
    facts: list[dict[str, Any]] = json.loads(trainyard("doctor", "--data-dir", str(tmp_path), "--json"))
    assert {fact["name"] for fact in facts} >= {"python", "cores", "memory", "disk", "port", "torch", "gpu"}
    assert [fact for fact in facts if fact["verdict"] == "failed"] == []
    monkeypatch.setenv("TRAINYARD_DATA_DIR", "/proc/nothing")
    shown = trainyard("doctor", code=9)
    assert re.search(r"^ok  python +3\.", shown, re.MULTILINE)
    assert re.search(r"^ok  sandbox: languages +py \(3\.", shown, re.MULTILINE)
    assert "make /proc writable or choose another with --data-dir" in shown
