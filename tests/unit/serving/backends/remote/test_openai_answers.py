"""Answers as real servers write them, and as none should, read without a network."""

import json
from typing import Any

import pytest

from trainyard.serving.backends.remote.openai_wire import Body, ChatWire, CompletionWire
from trainyard.serving.backends.remote.wire import Filtered, Garbage, Reported
from trainyard.serving.types import Piece, TokenInfo, ToolDelta, pieces

BASE = Body(model="m", max_tokens=20, temperature=1.0, top_p=1.0)
CHAT = ChatWire(BASE, [{"role": "user", "content": "hi"}])
TEXT = CompletionWire(BASE, "hi")
USAGE = {"prompt_tokens": 3, "completion_tokens": 2}


def chat(message: Any, finish: str | None = "stop", **more: Any) -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": finish}]} | more).encode()


@pytest.mark.parametrize(
    ("raw", "piece"),
    [
        (chat({"content": "hé"}, usage=USAGE, model="m-1"), Piece(text="hé", version="m-1", prompt_tokens=3)),
        (chat({"content": "hé"}), Piece(text="hé", completion_tokens=3)),  # 3 bytes
        (chat({"content": "x" * 99}), Piece(text="x" * 99, completion_tokens=20)),
        (chat({"content": None}), Piece(completion_tokens=1)),
        (chat({"content": "a"}, "eos_token"), Piece(text="a", completion_tokens=1)),
        (chat({"content": "a"}, None), Piece(text="a", completion_tokens=1)),
        (chat({"content": "a"}, "length"), Piece(text="a", completion_tokens=1, finish_reason="length")),
        (
            chat({"content": "a"}, usage=USAGE | {"prompt_tokens_details": {"cached_tokens": 1}}),
            Piece(text="a", prompt_tokens=3, completion_tokens=2, cached_tokens=1),
        ),
        (
            chat({"content": "a"}, usage=USAGE | {"prompt_tokens_details": None}),
            Piece(text="a", prompt_tokens=3, completion_tokens=2),
        ),
    ],
)
def test_whole_chats_are_read(raw: bytes, piece: Piece) -> None:
    made = CHAT.whole(raw)
    told = piece.prompt_tokens is not None
    assert (made.text, made.prompt_tokens, made.cached_tokens) == (piece.text, piece.prompt_tokens, piece.cached_tokens)
    assert made.completion_tokens == (2 if told else piece.completion_tokens)
    assert made.finish_reason == (piece.finish_reason or "stop")
    assert made.version == ("upstream" if piece.version == "base" else piece.version)


def test_a_call_that_ends_with_stop_is_a_call_all_the_same() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": None}}
    made = CHAT.whole(chat({"content": "", "tool_calls": [call]}))
    assert (made.finish_reason, made.tool_calls) == ("tool_calls", (ToolDelta(0, "c", "f", ""),))


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"", Garbage),
        (b"[]", Garbage),
        (b"{}", Garbage),
        (b'{"choices": []}', Garbage),
        (b'{"choices": [{}]}', Garbage),
        (b'{"choices": [{"message": {"content": 3}}]}', Garbage),
        (b'{"choices": [{"message": {"content": "\xff"}}]}', Garbage),
        (b"[" * 100_000, Garbage),
        (chat({"content": "a"}, usage=USAGE | {"prompt_tokens": -1}), Garbage),
        (chat({"content": "a"}, usage=USAGE | {"completion_tokens": 10**12}), Garbage),
        (b'{"error": {"message": "no"}}', Reported),
        (b'{"error": "no"}', Reported),
        (chat({"content": "a"}, "content_filter"), Filtered),
    ],
)
def test_what_is_no_answer_is_told_apart(raw: bytes, fault: type[Exception]) -> None:
    with pytest.raises(fault):
        CHAT.whole(raw)


def logged(**token: Any) -> bytes:
    one = {"token": "a", "logprob": -0.5} | token
    choice = {"message": {"content": "a"}, "finish_reason": "stop", "logprobs": {"content": [one]}}
    return json.dumps({"choices": [choice]}).encode()


@pytest.mark.parametrize(
    ("token", "info"),
    [
        ({}, TokenInfo(b"a", -0.5)),
        ({"bytes": [195]}, TokenInfo(b"\xc3", -0.5)),
        ({"top_logprobs": None}, TokenInfo(b"a", -0.5)),
        ({"top_logprobs": [{"token": "b", "logprob": -1, "bytes": [98]}]}, TokenInfo(b"a", -0.5, ((b"b", -1.0),))),
    ],
)
def test_log_probabilities_of_chats_are_read(token: dict[str, Any], info: TokenInfo) -> None:
    assert CHAT.whole(logged(**token)).tokens == (info,)


def completion(logprobs: Any) -> bytes:
    return json.dumps({"choices": [{"text": "ab", "finish_reason": "stop", "logprobs": logprobs}]}).encode()


@pytest.mark.parametrize(
    ("logprobs", "tokens"),
    [
        (None, ()),
        ({"tokens": None}, ()),
        ({"tokens": ["a", "b"], "token_logprobs": [None, -1]}, (TokenInfo(b"a", 0.0), TokenInfo(b"b", -1.0))),
        (
            {"tokens": ["ab"], "token_logprobs": [-1], "top_logprobs": [{"ab": -1, "c": -2}]},
            (TokenInfo(b"ab", -1.0, ((b"ab", -1.0), (b"c", -2.0))),),
        ),
        ({"tokens": ["ab"], "token_logprobs": [-1], "top_logprobs": [None]}, (TokenInfo(b"ab", -1.0),)),
    ],
)
def test_log_probabilities_of_completions_are_read(logprobs: Any, tokens: tuple[TokenInfo, ...]) -> None:
    made = TEXT.whole(completion(logprobs))
    assert made.tokens == tokens
    assert made.completion_tokens == (len(tokens) or 2)


@pytest.mark.parametrize(
    "logprobs",
    [
        {"tokens": ["a"], "token_logprobs": []},
        {"tokens": ["a"]},
        {"tokens": ["a"], "token_logprobs": [-1], "top_logprobs": [None, None]},
    ],
)
def test_log_probabilities_that_do_not_belong_together_are_garbage(logprobs: Any) -> None:
    with pytest.raises(Garbage):
        TEXT.whole(completion(logprobs))


def test_bytes_that_are_none_are_garbage() -> None:
    with pytest.raises(Garbage):
        CHAT.whole(logged(bytes=[300]))


def events(*bodies: Any) -> list[Piece]:
    reader = CHAT.reader()
    made = [reader.push(body if isinstance(body, bytes) else json.dumps(body).encode()) for body in bodies]
    return [piece for piece in (*made, reader.end()) if piece is not None]


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"model": "m-1", "choices": [{"delta": fields, "finish_reason": finish}]}


def test_the_usage_of_a_stream_stands_on_its_last_piece() -> None:
    made = events(delta(content="hé"), delta("stop"), {"choices": [], "usage": USAGE}, b"[DONE]")
    assert [(piece.text, piece.completion_tokens, piece.prompt_tokens) for piece in made] == [
        ("hé", 3, None),
        ("", 2, 3),
    ]
    assert [piece.finish_reason for piece in made] == [None, "stop"]


def test_a_running_count_is_taken_over() -> None:
    made = events(delta(content="one two") | {"usage": USAGE}, delta(content=" three", finish="stop"))
    assert [piece.completion_tokens for piece in made] == [2, 2, 2]


def test_a_stream_without_a_count_is_bounded_by_its_bytes_and_its_limit() -> None:
    made = events(delta(content="x" * 15), delta(content="x" * 15, finish="length"))
    assert [piece.completion_tokens for piece in made] == [15, 20, 20]


def test_parts_of_calls_keep_their_places() -> None:
    first = [{"index": 1, "id": "b", "function": {"name": "g", "arguments": ""}}]
    more = [{"index": 1, "function": {"arguments": "{}"}}]
    made = pieces.join(events(delta(tool_calls=first), delta(tool_calls=more), delta("stop")))
    assert (made.tool_calls, made.finish_reason) == ((ToolDelta(1, "b", "g", "{}"),), "tool_calls")


def test_a_stream_without_a_finish_reason_broke_off() -> None:
    assert events(delta(content="a"))[-1].finish_reason is None


@pytest.mark.parametrize(
    ("event", "fault"),
    [(b"{", Garbage), (b'{"error": {"message": "x"}}', Reported), (delta("content_filter"), Filtered)],
)
def test_events_that_end_a_stream_are_told_apart(event: Any, fault: type[Exception]) -> None:
    with pytest.raises(fault):
        events(delta(content="a"), event)
