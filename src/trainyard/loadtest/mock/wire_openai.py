"""OpenAI's wire: models, chat, completions, embeddings, whole and as server-sent events."""

import base64
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from trainyard.loadtest.mock import text
from trainyard.loadtest.mock.answers import Answer, Streamed, Whole
from trainyard.loadtest.mock.faults import Fault

SSE = "text/event-stream; charset=utf-8"
_CREATED = 1_700_000_000
_REPAIRED = '{"wrong":'
"""Text that is no JSON."""

_encode = msgspec.json.Encoder().encode


class Asked(msgspec.Struct, kw_only=True):
    """What the mock reads of a chat or completion request; everything else is taken without a look."""

    model: str = "mock"
    messages: list[dict[str, Any]] = []
    prompt: str | list[str | int | list[int]] = ""
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = 1
    stop: str | list[str] | None = None
    seed: int | None = None
    stream: bool | None = False
    stream_options: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    response_format: dict[str, Any] | None = None
    logprobs: bool | int | None = None
    top_logprobs: int | None = 0

    @property
    def stops(self) -> Sequence[str]:
        """The stop strings as a list."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or ()

    @property
    def limit(self) -> int | None:
        """Most tokens of one answer."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def counts_in_stream(self) -> bool:
        """Whether the stream ends with the usage."""
        return bool(self.stream_options and self.stream_options.get("include_usage"))


class AskedVectors(msgspec.Struct, kw_only=True):
    """An embeddings request."""

    model: str = "mock"
    input: str | list[str | int | list[int]]
    dimensions: int | None = None
    encoding_format: str | None = "float"


decode_text = msgspec.json.Decoder(Asked).decode
decode_vectors = msgspec.json.Decoder(AskedVectors).decode


@dataclass(frozen=True, slots=True)
class _Call:
    name: str
    arguments: str


def chat(asked: Asked, wanted: int, fault: Fault | None) -> Answer:
    """Answer a conversation."""
    if fault is Fault.NO_STREAM_OPTIONS and asked.stream_options is not None:
        return failure(400, "Unrecognized request argument supplied: stream_options")
    prompt = "\n".join(content_text(message.get("content")) for message in asked.messages)
    call = _call(asked)
    said = [_said(asked, prompt, wanted, number, fault) for number in range(asked.n or 1)]
    drawn = sum(len(one.tokens) for one in said) if call is None else text.count(call.arguments) + 1
    usage = None if fault is Fault.NO_USAGE else _usage(text.count(prompt), drawn)
    if asked.stream:
        return _stream(asked, _chat_events(asked, said, call), usage, "chat.completion.chunk", fault)
    choices = [_chat_choice(asked, one, number, call) for number, one in enumerate(said)]
    return _whole(asked, "chat.completion", choices, usage, drawn)


def completion(asked: Asked, wanted: int, fault: Fault | None) -> Answer:
    """Continue text; one prompt or several."""
    if fault is Fault.NO_STREAM_OPTIONS and asked.stream_options is not None:
        return failure(400, "Unrecognized request argument supplied: stream_options")
    prompts = [shown_prompt(one) for one in texts(asked.prompt)]
    said = [_said(asked, one, wanted, number, fault) for one in prompts for number in range(asked.n or 1)]
    drawn = sum(len(one.tokens) for one in said)
    usage = None if fault is Fault.NO_USAGE else _usage(sum(map(text.count, prompts)), drawn)
    if asked.stream:
        return _stream(asked, _completion_events(asked, said), usage, "text_completion", fault)
    choices = [_completion_choice(asked, number, one.text, one.finish, one.tokens) for number, one in enumerate(said)]
    return _whole(asked, "text_completion", choices, usage, drawn)


def embeddings(asked: AskedVectors, fault: Fault | None) -> Whole:
    """Embed texts; the vectors are longer than 1."""
    inputs = [shown_prompt(one) for one in texts(asked.input)]
    vectors = [text.vector(one, asked.dimensions or text.DIMENSIONS) for one in inputs]
    data = [
        {"object": "embedding", "index": number, "embedding": _packed(one, asked.encoding_format)}
        for number, one in enumerate(vectors)
    ]
    body: dict[str, object] = {"object": "list", "model": asked.model, "data": data}
    if fault is not Fault.NO_USAGE:
        tokens = sum(map(text.count, inputs))
        body["usage"] = {"prompt_tokens": tokens, "total_tokens": tokens}
    return Whole(_encode(body))


def models(names: Sequence[str]) -> Whole:
    """List the models."""
    data = [{"id": name, "object": "model", "created": _CREATED, "owned_by": "mock"} for name in names]
    return Whole(_encode({"object": "list", "data": data}))


def failure(status: int, message: str, headers: Mapping[str, str] | None = None) -> Whole:
    """Answer with an error in OpenAI's shape."""
    kind = "rate_limit_error" if status == 429 else "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": None, "code": None}
    return Whole(_encode({"error": error}), status, headers=headers)


def texts(given: str | list[str | int | list[int]]) -> list[Any]:
    """Bring the forms of a prompt together: a list of texts or of token lists."""
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        return [given]
    return list(given)


def shown_prompt(prompt: str | list[int]) -> str:
    """Write token ids as words."""
    return prompt if isinstance(prompt, str) else " ".join(map(str, prompt))


def content_text(content: object) -> str:
    """Read the text of a message, which may come in parts."""
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def formed(form: Mapping[str, Any] | None, last: str, has_answered: bool, fault: Fault | None) -> str | None:
    """Give the text that keeps a response format; None when any text does."""
    if form is None or form.get("type") not in ("json_object", "json_schema"):
        return None
    if fault is Fault.INVALID_OUTPUT or (fault is Fault.INVALID_ONCE and not has_answered):
        return _REPAIRED
    if form["type"] == "json_object":
        return text.shown({"echo": last})
    return text.shown(text.instance(form["json_schema"]["schema"]))


def _said(asked: Asked, prompt: str, wanted: int, number: int, fault: Fault | None) -> text.Said:
    if asked.response_format is not None:
        last = content_text(asked.messages[-1].get("content")) if asked.messages else ""
        has_answered = any(message.get("role") == "assistant" for message in asked.messages)
        given = formed(asked.response_format, last, has_answered, fault)
        if given is not None:
            return text.say_text(given, asked.limit, asked.stops)
    return text.say(prompt, wanted, asked.limit, asked.stops, (asked.seed or 0) + number)


def _call(asked: Asked) -> _Call | None:
    """Call the named tool or the first one with the smallest arguments that its schema allows."""
    if not asked.tools or asked.tool_choice == "none":
        return None
    if asked.messages and asked.messages[-1].get("role") == "tool":
        return None  # the tool has answered; now the model talks
    named = asked.tool_choice["function"]["name"] if isinstance(asked.tool_choice, dict) else None
    chosen = next((one for one in asked.tools if one["function"]["name"] == named), asked.tools[0])["function"]
    return _Call(chosen["name"], text.shown(text.instance(chosen.get("parameters") or {"type": "object"})))


def _usage(prompt: int, drawn: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": drawn, "total_tokens": prompt + drawn}


def _whole(asked: Asked, kind: str, choices: Sequence[object], usage: object, drawn: int) -> Whole:
    body = {"id": "mock-1", "object": kind, "created": _CREATED, "model": asked.model, "choices": choices}
    return Whole(_encode(body | {"usage": usage} if usage else body), tokens=drawn)


def _chat_choice(asked: Asked, said: text.Said, number: int, call: _Call | None) -> dict[str, object]:
    if call is not None:
        calls = [{"id": f"call_{number}", "type": "function", "function": _function(call.name, call.arguments)}]
        message: dict[str, object] = {"role": "assistant", "content": None, "tool_calls": calls}
        return {"index": number, "message": message, "finish_reason": "tool_calls"}
    logprobs = _chat_logprobs(asked, said.tokens, 0)
    message = {"role": "assistant", "content": said.text}
    return {"index": number, "message": message, "finish_reason": said.finish, "logprobs": logprobs}


def _function(name: str | None, arguments: str) -> dict[str, object]:
    return {"name": name, "arguments": arguments} if name else {"arguments": arguments}


def _chat_events(asked: Asked, said: Sequence[text.Said], call: _Call | None) -> Iterator[dict[str, object]]:
    for number, one in enumerate(said):
        yield _delta(number, {"role": "assistant", "content": "" if call is None else None})
        if call is not None:
            half = len(call.arguments) // 2
            first = {"index": 0, "id": f"call_{number}", "type": "function", "function": _function(call.name, "")}
            yield _delta(number, {"tool_calls": [first]})
            for part in (call.arguments[:half], call.arguments[half:]):
                yield _delta(number, {"tool_calls": [{"index": 0, "function": _function(None, part)}]})
            yield _delta(number, {}, "tool_calls")
            continue
        for at, token in enumerate(one.tokens):
            yield _delta(number, {"content": token}) | {"logprobs": _chat_logprobs(asked, [token], at)}
        yield _delta(number, {}, one.finish)


def _delta(number: int, delta: Mapping[str, object], finish: str | None = None) -> dict[str, object]:
    return {"index": number, "delta": delta, "finish_reason": finish}


def _completion_events(asked: Asked, said: Sequence[text.Said]) -> Iterator[dict[str, object]]:
    for number, one in enumerate(said):
        for at, token in enumerate(one.tokens):
            yield _completion_choice(asked, number, token, None, [token], at)
        yield _completion_choice(asked, number, "", one.finish, [])


def _completion_choice(
    asked: Asked, number: int, said: str, finish: str | None, tokens: Sequence[str], first: int = 0
) -> dict[str, object]:
    logprobs = None
    if asked.logprobs is not None and asked.logprobs is not False and tokens:
        values = [text.logprob(first + at) for at in range(len(tokens))]
        tops = [{token: value} for token, value in zip(tokens, values, strict=True)] if asked.logprobs else None
        logprobs = {"tokens": list(tokens), "token_logprobs": values, "top_logprobs": tops, "text_offset": []}
    return {"index": number, "text": said, "finish_reason": finish, "logprobs": logprobs}


def _chat_logprobs(asked: Asked, tokens: Sequence[str], first: int) -> dict[str, object] | None:
    if not asked.logprobs:
        return None
    content = []
    for at, token in enumerate(tokens):
        one = {"token": token, "logprob": text.logprob(first + at), "bytes": list(token.encode())}
        content.append(one | {"top_logprobs": [one] if asked.top_logprobs else []})
    return {"content": content}


def _stream(
    asked: Asked, choices: Iterator[dict[str, object]], usage: object, kind: str, fault: Fault | None
) -> Streamed:
    head = {"id": "mock-1", "object": kind, "created": _CREATED, "model": asked.model}
    bodies = [_encode(head | {"choices": [choice]}) for choice in choices]
    if usage and asked.counts_in_stream:
        bodies.append(_encode(head | {"choices": [], "usage": usage}))
    if fault is not Fault.NO_DONE:
        bodies.append(b"[DONE]")
    framed = _odd if fault is Fault.ODD_SSE else _framed
    error = _encode({"error": {"message": "the mock failed in the middle", "type": "server_error", "code": None}})
    return Streamed([framed(body) for body in bodies], SSE, _framed(error), _framed(b'{"choices": [{'))


def _framed(body: bytes) -> bytes:
    return b"data: " + body + b"\n\n"


def _odd(body: bytes) -> bytes:
    """Frame an event as a server may that reads the specification closely."""
    head, comma, rest = body.partition(b",")
    lines = [b": a comment", b"event: message", b"id: 7", b"data:" + head + comma]
    lines += [b"data: " + rest] if comma else []
    return b"\r\n".join([*lines, b"", b""])


def _packed(vector: Sequence[float], form: str | None) -> object:
    if form != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
