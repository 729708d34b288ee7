"""Ollama's own dialect: /api/chat and /api/generate, whole and as lines of JSON."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import msgspec

from trainyard.core import errors
from trainyard.engine.types import Grammar
from trainyard.serving.backends.remote import counts
from trainyard.serving.backends.remote.framing import Framing, JsonLines
from trainyard.serving.backends.remote.openai_wire import encode, repaired
from trainyard.serving.backends.remote.wire import Garbage, Reader, Repair, Reported
from trainyard.serving.types import Ask, Chat, Finish, Piece, ToolDelta, pieces

_Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000_000)]
_NO_REPEAT_PENALTY = 1.0  # Ollama's own default is 1.1, which is not the model's distribution


class Options(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How tokens are drawn; everything is sent, since a model's file has defaults of its own."""

    num_predict: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repeat_penalty: float
    presence_penalty: float
    frequency_penalty: float
    stop: Sequence[str] = ()
    seed: int | None = None
    num_ctx: int | None = None


class Body(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A request."""

    model: str
    stream: bool
    options: Options
    messages: Sequence[Mapping[str, object]] = ()
    prompt: str = ""
    raw: bool = False
    format: object = None
    tools: Sequence[Mapping[str, object]] = ()


def sampling(ask: Ask, model: str, max_tokens: int, context_tokens: int | None) -> Body:
    """Write what all prompts of a request share."""
    options = Options(
        num_predict=max_tokens,
        temperature=ask.temperature,
        top_p=ask.top_p,
        top_k=ask.top_k,
        min_p=ask.min_p,
        repeat_penalty=_NO_REPEAT_PENALTY,
        presence_penalty=ask.presence_penalty,
        frequency_penalty=ask.frequency_penalty,
        stop=ask.stop,
        num_ctx=context_tokens,
    )
    return Body(model=model, stream=False, options=options, format=_format(ask.form))


@dataclass(frozen=True, slots=True)
class OllamaWire:
    """Implements `Wire` for both paths.

    Attributes:
        base: With `messages` for a chat, with `prompt` for text.
    """

    base: Body
    path: Literal["/api/chat", "/api/generate"]

    @property
    def max_tokens(self) -> int:
        """Most tokens of one answer."""
        return self.base.options.num_predict

    def body(self, seed: int | None, *, is_stream: bool, has_usage: bool, repair: Repair | None = None) -> bytes:
        """Write the request; Ollama always counts."""
        options = self.base.options if seed is None else msgspec.structs.replace(self.base.options, seed=seed)
        body = msgspec.structs.replace(self.base, stream=is_stream, options=options)
        if repair is not None and self.path == "/api/chat":
            said = {"role": "assistant", "content": repair.said}
            body.messages = [*body.messages, said, {"role": "user", "content": repaired(repair)}]
        elif repair is not None:
            body.prompt = f"{body.prompt}{repair.said}\n\n{repaired(repair)}\n\n"
        return encode(body)

    def whole(self, raw: bytes) -> Piece:
        """Read a whole answer."""
        reader = LineReader(self.max_tokens)
        piece = reader.push(raw)
        last = reader.end()
        if last is None:
            raise Garbage
        return last if piece is None else pieces.join([piece, last])

    def reader(self) -> Reader:
        """Begin to read a stream."""
        return LineReader(self.max_tokens)

    def framing(self) -> Framing:
        """Begin to cut a stream into events."""
        return JsonLines()


def turns(chat: Chat, param: str) -> list[dict[str, object]]:
    """Say turns in Ollama's words: arguments of calls are objects, results name their tool, images are not sent.

    Raises:
        errors.InvalidRequest: A turn has content other than text, or arguments that are no JSON object.
    """
    names: dict[object, str] = {}
    return [_turn(message, names, f"{param}[{at}]") for at, message in enumerate(chat.messages)]


def _turn(message: Mapping[str, object], names: dict[object, str], param: str) -> dict[str, object]:
    turn: dict[str, object] = {"role": message["role"], "content": _text(message.get("content"), param)}
    calls: Any = message.get("tool_calls")
    if calls:
        turn["tool_calls"] = [_call_turn(call, names, param) for call in calls]
    if message.get("tool_call_id") in names:
        turn["tool_name"] = names[message["tool_call_id"]]
    return turn


def _call_turn(call: Any, names: dict[object, str], param: str) -> dict[str, object]:
    function = call["function"]
    names[call.get("id")] = function["name"]
    try:
        arguments = msgspec.json.decode(function.get("arguments") or "{}", type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise errors.InvalidRequest(
            "The arguments of a tool call are a JSON object", param=f"{param}.tool_calls"
        ) from error
    return {"function": {"name": function["name"], "arguments": arguments}}


def _text(content: object, param: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    parts = [part.get("text") for part in content if isinstance(part, Mapping)] if isinstance(content, list) else [None]
    if not all(isinstance(part, str) for part in parts):
        raise errors.InvalidRequest(
            "This model reads text alone", code="unsupported_parameter", param=f"{param}.content"
        )
    return "".join(map(str, parts))


def _format(form: Grammar | None) -> object:
    if form is None or form.kind == "regex":
        return None
    return "json" if form.kind == "json_object" else msgspec.Raw(form.text.encode())


class _Function(msgspec.Struct):
    name: str
    arguments: dict[str, Any] = {}


class _Call(msgspec.Struct):
    function: _Function


class _Message(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_Call] | None = None


class _Line(msgspec.Struct):
    message: _Message | None = None
    response: str | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: _Count | None = None
    eval_count: _Count | None = None
    model: str | None = None
    error: object = None


_read = msgspec.json.Decoder(_Line).decode


@dataclass(slots=True)
class LineReader:
    """Implements `Reader`."""

    max_tokens: int
    is_done: bool = False
    _bound: int = 0
    _calls: int = 0
    _last: _Line | None = None

    def push(self, event: bytes) -> Piece | None:
        """Take a line."""
        line = _decoded(event)
        if line.done:
            self._last, self.is_done = line, True
        message = line.message
        text = (message.content if message else line.response) or ""
        calls = self._deltas(message.tool_calls if message else None)
        if not (text or calls):
            return None
        self._bound += sum(counts.text_bound(one) for one in (text, *(call.arguments for call in calls)) if one)
        version = line.model or "upstream"
        return Piece(text=text, tool_calls=calls, completion_tokens=self._drawn(), version=version)

    def end(self) -> Piece | None:
        """Give the last piece; without counts the bounds stand."""
        last = self._last
        if last is None:
            return None
        finish: Finish = "tool_calls" if self._calls else "length" if last.done_reason == "length" else "stop"
        return Piece(
            finish_reason=finish,
            completion_tokens=self._drawn() if last.eval_count is None else last.eval_count,
            prompt_tokens=last.prompt_eval_count,
            version=last.model or "upstream",
        )

    def _deltas(self, calls: Sequence[_Call] | None) -> tuple[ToolDelta, ...]:
        deltas = []
        for call in calls or ():
            arguments = encode(call.function.arguments).decode()
            deltas.append(ToolDelta(self._calls, f"call_{secrets.token_hex(8)}", call.function.name, arguments))
            self._calls += 1
        return tuple(deltas)

    def _drawn(self) -> int:
        return min(max(self._bound, 1), self.max_tokens)


def _decoded(raw: bytes) -> _Line:
    try:
        line = _read(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Garbage from error
    if line.error is not None:
        raise Reported
    if line.message is None and line.response is None and not line.done:
        raise Garbage
    return line
