"""What `make demo` runs, with fewer passes over its text."""

import json
import re
from pathlib import Path

import pytest

from trainyard.cli import demo, edge


@pytest.mark.timeout(420)
def test_the_demo_learns_and_says_so_and_can_be_repeated(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert edge.run(["demo", "--data-dir", str(tmp_path / "demo"), "--epochs", "2"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"loss on held-out lines: [\d.]+ before, [\d.]+ after: -\d+% \(ok; the goal is -40%\)", shown)
    assert all(prompt in shown for prompt in demo.demo_prompts())
    adapter = re.search(r"adapter, in PEFT's format: (\S+)", shown)
    assert adapter is not None
    assert Path(adapter[1], "adapter_model.safetensors").is_file()
    assert re.search(r"training: [\d,]+ tokens in .*, [\d,]+ a second; all in all ", shown)

    assert edge.run(["demo", "--data-dir", str(tmp_path / "demo"), "--epochs", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["is_good"]
    assert report["loss_after"] <= 0.6 * report["loss_before"]
    assert [answer["prompt"] for answer in report["answers"]] == demo.demo_prompts()
    assert all(answer["before"] != answer["after"] for answer in report["answers"])
    assert report["tokens_per_s"] > 0
