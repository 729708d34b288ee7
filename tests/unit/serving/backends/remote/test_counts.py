"""Bounds are bytes plus a constant per message."""

import pytest

from trainyard.serving.backends.remote import counts
from trainyard.serving.types import Chat, Prompt, Tool

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("prompt", "bound"),
    [
        ("hello", 5),
        ("grüße", 7),
        ([1, 2, 3], 3),
        (Chat([{"role": "user", "content": "hello"}]), 5 + 16 + 16),
        (Chat([{"role": "user", "content": "a"}, {"role": "assistant", "content": None}]), 1 + 16 + 16 + 16),
        # compact JSON of [CALL] is 71 bytes
        (Chat([{"role": "assistant", "content": "", "tool_calls": [CALL]}]), 1 + 71 + 16 + 16),
        (Chat([], [Tool("look", "finds", {"type": "object"})]), 16 + 4 + 5 + 17 + 16),
    ],
)
def test_a_prompt_is_bounded_by_its_bytes(prompt: Prompt, bound: int) -> None:
    assert counts.prompt_bound(prompt) == bound


@pytest.mark.parametrize(
    ("text", "arguments", "limit", "bound"),
    [("hello", [], 100, 5), ("hello", [], 3, 3), ("", [], 100, 1), ("ü", ["{}"], 100, 4)],
)
def test_an_answer_is_bounded_by_its_bytes_and_its_limit(
    text: str, arguments: list[str], limit: int, bound: int
) -> None:
    assert counts.drawn_bound(text, arguments, limit) == bound
