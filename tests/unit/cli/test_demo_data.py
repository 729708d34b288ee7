"""The demo's data: committed, in the one format, held out by hash."""

import hashlib
import json
from importlib import resources

from trainyard.cli import dataset, demo


def test_there_are_at_least_200_different_chats() -> None:
    lines = demo.demo_lines()
    assert len({line.digest for line in lines}) >= 200
    assert all(set(line.example) == {"messages"} for line in lines)


def test_the_twenty_chats_with_the_smallest_sha_256_are_held_out() -> None:
    lines, held_out = dataset.hold_out(demo.demo_lines(), demo.HELD_OUT)
    assert len(held_out) == 20
    raw = "".join(
        file.read_text(encoding="utf-8")
        for file in (resources.files("trainyard.cli") / "demo_data").iterdir()
        if file.name.endswith(".jsonl")
    )
    canonical = [
        json.dumps(json.loads(line), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        for line in raw.splitlines()
    ]
    smallest = sorted({hashlib.sha256(text.encode()).digest() for text in canonical})[:20]
    assert sorted(line.digest for line in held_out) == smallest
    assert not {line.digest for line in lines} & set(smallest)


def test_the_prompts_are_fixed_and_few() -> None:
    prompts = demo.demo_prompts()
    assert 3 <= len(prompts) <= 8
    assert all(isinstance(prompt, str) and prompt for prompt in prompts)
