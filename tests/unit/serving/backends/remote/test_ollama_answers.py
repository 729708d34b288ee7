"""Ollama's lines, read without a network."""

import json
from typing import Any

import pytest

from trainyard.core import errors
from trainyard.serving.backends.remote import ollama_wire
from trainyard.serving.backends.remote.ollama_wire import LineReader, OllamaWire
from trainyard.serving.backends.remote.wire import Garbage, Reported
from trainyard.serving.types import Ask, Chat, Piece

ASK = Ask(model=None, prompts=["hi"], param="messages", default_max_tokens=20)
WIRE = OllamaWire(ollama_wire.sampling(ASK, "m", 20, None), "/api/chat")
END = {"done": True, "done_reason": "stop", "prompt_eval_count": 3, "eval_count": 2, "model": "m:8b"}


def read(*lines: Any) -> list[Piece]:
    reader = LineReader(20)
    made = [reader.push(line if isinstance(line, bytes) else json.dumps(line).encode()) for line in lines]
    return [piece for piece in (*made, reader.end()) if piece is not None]


def said(content: str, **more: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": content}, "done": False, "model": "m:8b"} | more


@pytest.mark.parametrize(
    ("lines", "text", "finish", "drawn", "prompt"),
    [
        ([said("hé"), said("", **END)], "hé", "stop", 2, 3),
        ([{"response": "hé", "done": False}, {"response": "", **END}], "hé", "stop", 2, 3),
        ([said("a"), said("", done=True, done_reason="length")], "a", "length", 1, None),
        ([said("a"), said("", done=True)], "a", "stop", 1, None),
        ([said("a"), {"done": True, "eval_count": 0}], "a", "stop", 0, None),
        ([said("x" * 50), said("", done=True)], "x" * 50, "stop", 20, None),
    ],
)
def test_a_stream_is_read(lines: list[Any], text: str, finish: str, drawn: int, prompt: int | None) -> None:
    made = read(*lines)
    last = made[-1]
    assert "".join(piece.text for piece in made) == text
    assert (last.finish_reason, last.completion_tokens, last.prompt_tokens) == (finish, drawn, prompt)


def test_calls_get_ids_and_places() -> None:
    calls = [{"function": {"name": "f", "arguments": {"a": 1}}}, {"function": {"name": "g"}}]
    made = WIRE.whole(json.dumps(said("", **END) | {"message": {"content": "", "tool_calls": calls}}).encode())
    first, second = made.tool_calls
    assert (made.finish_reason, first.name, first.arguments) == ("tool_calls", "f", '{"a":1}')
    assert (second.index, second.name, second.arguments) == (1, "g", "{}")
    assert first.id != second.id


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"", Garbage),
        (b"{", Garbage),
        (b"{}", Garbage),
        (b"[" * 100_000, Garbage),
        ({"message": {"content": 3}}, Garbage),
        ({"done": True, "eval_count": -1}, Garbage),
        ({"error": "model failed"}, Reported),
    ],
)
def test_what_is_no_line_is_told_apart(line: Any, fault: type[Exception]) -> None:
    with pytest.raises(fault):
        read(line)


def test_an_answer_without_its_end_is_none() -> None:
    assert read(said("a"))[-1].finish_reason is None
    with pytest.raises(Garbage):
        WIRE.whole(json.dumps(said("a")).encode())


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
SAID = {"function": {"name": "f", "arguments": {"a": 1}}}


@pytest.mark.parametrize(
    ("messages", "turns"),
    [
        ([{"role": "user", "content": "a"}], [{"role": "user", "content": "a"}]),
        ([{"role": "assistant", "content": None}], [{"role": "assistant", "content": ""}]),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
            [{"role": "user", "content": "ab"}],
        ),
        (
            [{"role": "assistant", "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "c1", "content": "r"}],
            [
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}],
                },
                {"role": "tool", "content": "r", "tool_name": "f"},
            ],
        ),
    ],
)
def test_turns_are_said_in_its_words(messages: list[dict[str, Any]], turns: list[dict[str, Any]]) -> None:
    assert ollama_wire.turns(Chat(messages), "messages") == turns


@pytest.mark.parametrize("content", [[{"type": "image_url", "image_url": {"url": "x"}}], 3, {"text": "a"}])
def test_what_is_no_text_is_refused_with_its_place(content: Any) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        ollama_wire.turns(Chat([{"role": "user", "content": "a"}, {"role": "user", "content": content}]), "messages")
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "messages[1].content")
