"""Ollama's wire: tags, show, version, chat, generate, embed, whole and as lines of JSON."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from trainyard.loadtest.mock import text, wire_openai
from trainyard.loadtest.mock.answers import Answer, Streamed, Whole
from trainyard.loadtest.mock.faults import Fault

NDJSON = "application/x-ndjson"
_CREATED = "2023-11-14T22:13:20Z"
_CONTEXT_TOKENS = 8192

_encode = msgspec.json.Encoder().encode


class Options(msgspec.Struct, kw_only=True):
    """What the mock reads of `options`."""

    num_predict: int | None = None
    stop: list[str] | None = None
    seed: int | None = None


class Asked(msgspec.Struct, kw_only=True):
    """What the mock reads of /api/chat and /api/generate; a stream is the default there."""

    model: str = "mock"
    messages: list[dict[str, Any]] = []
    prompt: str = ""
    stream: bool | None = True
    format: str | dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    options: Options = msgspec.field(default_factory=Options)


class AskedVectors(msgspec.Struct, kw_only=True):
    """What the mock reads of /api/embed."""

    model: str = "mock"
    input: str | list[str]


class AskedModel(msgspec.Struct, kw_only=True):
    """What the mock reads of /api/show."""

    model: str = "mock"


decode_text = msgspec.json.Decoder(Asked).decode
decode_vectors = msgspec.json.Decoder(AskedVectors).decode
decode_model = msgspec.json.Decoder(AskedModel).decode


def chat(asked: Asked, wanted: int, fault: Fault | None) -> Answer:
    """Answer a conversation."""
    prompt = "\n".join(wire_openai.content_text(message.get("content")) for message in asked.messages)
    said = _said(asked, prompt, wanted, fault)
    calls = _calls(asked)
    if calls:
        return _answer(asked, [_turn("", calls)], _end(said, prompt, fault, drawn=1), fault)
    return _answer(asked, [_turn(token) for token in said.tokens], _end(said, prompt, fault), fault)


def generate(asked: Asked, wanted: int, fault: Fault | None) -> Answer:
    """Continue text."""
    said = _said(asked, asked.prompt, wanted, fault)
    return _answer(asked, [{"response": token} for token in said.tokens], _end(said, asked.prompt, fault), fault)


def embed(asked: AskedVectors, fault: Fault | None) -> Whole:
    """Embed texts; the vectors are longer than 1."""
    inputs = [asked.input] if isinstance(asked.input, str) else asked.input
    body: dict[str, object] = {"model": asked.model, "embeddings": [text.vector(one) for one in inputs]}
    counted = {} if fault is Fault.NO_USAGE else {"prompt_eval_count": sum(map(text.count, inputs))}
    return Whole(_encode(body | counted))


def tags(names: Sequence[str]) -> Whole:
    """List the models."""
    return Whole(_encode({"models": [{"name": name, "model": name, "size": 0, "digest": "0" * 64} for name in names]}))


def show(asked: AskedModel) -> Whole:
    """Describe a model."""
    info = {"general.architecture": "mock", "mock.context_length": _CONTEXT_TOKENS}
    body = {"details": {"family": "mock"}, "model_info": info, "capabilities": ["completion", "tools"]}
    return Whole(_encode(body | {"modified_at": _CREATED, "parameters": "", "template": asked.model}))


def version() -> Whole:
    """Tell the version."""
    return Whole(b'{"version":"0.0.0-mock"}')


def failure(status: int, message: str, headers: Mapping[str, str] | None = None) -> Whole:
    """Answer with an error in Ollama's shape."""
    return Whole(_encode({"error": message}), status, headers=headers)


def _said(asked: Asked, prompt: str, wanted: int, fault: Fault | None) -> text.Said:
    options = asked.options
    form = _form(asked.format)
    has_answered = any(message.get("role") == "assistant" for message in asked.messages)
    given = wire_openai.formed(form, prompt, has_answered, fault)
    stops, limit = options.stop or (), options.num_predict
    if given is not None:
        return text.say_text(given, limit, stops)
    return text.say(prompt, wanted, limit, stops, options.seed or 0)


def _form(given: str | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Say a format in OpenAI's words."""
    if given in (None, ""):
        return None
    return {"type": "json_object"} if given == "json" else {"type": "json_schema", "json_schema": {"schema": given}}


def _calls(asked: Asked) -> list[dict[str, object]]:
    if not asked.tools or (asked.messages and asked.messages[-1].get("role") == "tool"):
        return []
    chosen = asked.tools[0]["function"]
    arguments = text.instance(chosen.get("parameters") or {"type": "object"})
    return [{"function": {"name": chosen["name"], "arguments": arguments}}]


def _turn(content: str, calls: Sequence[object] = ()) -> dict[str, object]:
    message: dict[str, object] = {"role": "assistant", "content": content}
    return {"message": message | {"tool_calls": calls} if calls else message}


def _end(said: text.Said, prompt: str, fault: Fault | None, drawn: int | None = None) -> dict[str, object]:
    end: dict[str, object] = {"done": True, "done_reason": said.finish, "total_duration": 1, "load_duration": 0}
    if fault is Fault.NO_USAGE:
        return end
    return end | {"prompt_eval_count": text.count(prompt), "eval_count": len(said.tokens) if drawn is None else drawn}


def _answer(asked: Asked, pieces: Sequence[dict[str, Any]], end: dict[str, object], fault: Fault | None) -> Answer:
    head: dict[str, object] = {"model": asked.model, "created_at": _CREATED}
    if asked.stream is False:
        return Whole(_encode(head | _joined(pieces, asked) | end), tokens=len(pieces))
    lines = [*(_line(head | piece | {"done": False}) for piece in pieces), *_last(head, asked, end, fault)]
    return Streamed(lines, NDJSON, _line({"error": "the mock failed in the middle"}), b'{"message": {\n')


def _last(head: dict[str, object], asked: Asked, end: dict[str, object], fault: Fault | None) -> Iterator[bytes]:
    if fault is not Fault.NO_DONE:
        yield _line(head | _joined([], asked) | end)


def _joined(pieces: Sequence[dict[str, Any]], asked: Asked) -> dict[str, object]:
    if not asked.messages:
        return {"response": "".join(piece["response"] for piece in pieces)}
    calls = [call for piece in pieces for call in piece["message"].get("tool_calls", ())]
    return _turn("".join(piece["message"]["content"] for piece in pieces), calls)


def _line(value: object) -> bytes:
    return _encode(value) + b"\n"
