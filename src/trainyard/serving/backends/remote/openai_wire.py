"""OpenAI's dialect towards an upstream: chat and completions, whole and as server-sent events."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from trainyard.engine.types import Grammar
from trainyard.serving.backends.remote import counts
from trainyard.serving.backends.remote import openai_answers as answers
from trainyard.serving.backends.remote.framing import Framing, ServerSentEvents
from trainyard.serving.backends.remote.wire import Reader, Repair
from trainyard.serving.types import Ask, Chat, Piece, Tool

encode = msgspec.json.Encoder().encode


class Body(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A request; what is left out has OpenAI's default. Servers have defaults of their own for the temperature."""

    model: str
    messages: Sequence[Mapping[str, object]] = ()
    prompt: str | Sequence[int] = ""
    max_tokens: int = 0
    max_completion_tokens: int = 0
    temperature: float
    top_p: float
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: Sequence[str] = ()
    seed: int | None = None
    logprobs: bool | int | None = None
    top_logprobs: int | None = None
    response_format: Mapping[str, object] | None = None
    tools: Sequence[Mapping[str, object]] = ()
    tool_choice: str | Mapping[str, object] | None = None
    parallel_tool_calls: bool | None = None
    stream: bool = False
    stream_options: Mapping[str, object] | None = None


_USAGE = {"include_usage": True}


def sampling(ask: Ask, model: str, max_tokens: int) -> Body:
    """Write what all prompts of a request share."""
    return Body(
        model=model,
        max_tokens=max_tokens,
        temperature=ask.temperature,
        top_p=ask.top_p,
        top_k=ask.top_k,
        min_p=ask.min_p,
        presence_penalty=ask.presence_penalty,
        frequency_penalty=ask.frequency_penalty,
        stop=ask.stop,
    )


def repaired(repair: Repair) -> str:
    """Ask for an answer again."""
    return (
        f"This answer does not have the form that was asked for: {repair.fault}. "
        "Answer again, with nothing but the corrected text."
    )


class ChatWire(msgspec.Struct, frozen=True):
    """Implements `Wire` for /chat/completions."""

    base: Body
    messages: Sequence[Mapping[str, object]]
    path: str = "/chat/completions"

    @property
    def max_tokens(self) -> int:
        """Most tokens of one answer, by whichever name the server is told."""
        return self.base.max_tokens or self.base.max_completion_tokens

    def body(self, seed: int | None, *, is_stream: bool, has_usage: bool, repair: Repair | None = None) -> bytes:
        """Write the request; a repair is two more turns."""
        turns = self.messages
        if repair is not None:
            turns = [
                *turns,
                {"role": "assistant", "content": repair.said},
                {"role": "user", "content": repaired(repair)},
            ]
        return _written(self.base, seed, is_stream, has_usage, messages=turns)

    def whole(self, raw: bytes) -> Piece:
        """Read a whole answer."""
        answer = answers.decoded(answers.read_chat, raw)
        choice = answers.only(answer)
        message, finish = choice.message, answers.finish_of(choice.finish_reason)
        text = message.content or ""
        calls = tuple([answers.call_of(at, call) for at, call in enumerate(message.tool_calls or ())])
        if calls and finish == "stop":
            finish = "tool_calls"
        tokens = answers.chat_tokens(choice.logprobs)
        drawn = len(tokens) or counts.drawn_bound(text, [call.arguments for call in calls], self.max_tokens)
        made = answers.counted(answer.usage, answer.model, drawn, text=text, tokens=tokens, finish=finish)
        return msgspec.structs.replace(made, tool_calls=calls) if calls else made

    def reader(self) -> Reader:
        """Begin to read a stream."""
        return answers.EventReader(self.max_tokens, answers.read_chat_chunk)

    def framing(self) -> Framing:
        """Begin to cut a stream into events."""
        return ServerSentEvents()


class CompletionWire(msgspec.Struct, frozen=True):
    """Implements `Wire` for /completions."""

    base: Body
    prompt: str | Sequence[int]
    path: str = "/completions"

    @property
    def max_tokens(self) -> int:
        """Most tokens of one answer."""
        return self.base.max_tokens

    def body(self, seed: int | None, *, is_stream: bool, has_usage: bool, repair: Repair | None = None) -> bytes:
        """Write the request; a repair is text after the prompt, which has to be text then."""
        prompt = self.prompt
        if repair is not None:
            prompt = f"{prompt}{repair.said}\n\n{repaired(repair)}\n\n"
        return _written(self.base, seed, is_stream, has_usage, prompt=prompt)

    def whole(self, raw: bytes) -> Piece:
        """Read a whole answer."""
        answer = answers.decoded(answers.read_completion, raw)
        choice = answers.only(answer)
        tokens = answers.text_tokens(choice.logprobs)
        drawn = len(tokens) or counts.drawn_bound(choice.text, (), self.max_tokens)
        finish = answers.finish_of(choice.finish_reason)
        return answers.counted(answer.usage, answer.model, drawn, text=choice.text, tokens=tokens, finish=finish)

    def reader(self) -> Reader:
        """Begin to read a stream."""
        return answers.EventReader(self.max_tokens, answers.read_completion)

    def framing(self) -> Framing:
        """Begin to cut a stream into events."""
        return ServerSentEvents()


def response_format(form: Grammar | None) -> Mapping[str, object] | None:
    """Say a form in OpenAI's words; a regular expression has none there, and is checked when the answer is whole."""
    if form is None or form.kind == "regex":
        return None
    if form.kind == "json_object":
        return {"type": "json_object"}
    schema = msgspec.Raw(form.text.encode())
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


def tools_of(chat: Chat, ask: Ask) -> dict[str, Any]:
    """Write the fields about tools."""
    if not chat.tools:
        return {}
    choice: str | Mapping[str, object] = ask.tool_choice
    if ask.tool_choice not in ("auto", "none", "required"):
        choice = {"type": "function", "function": {"name": ask.tool_choice}}
    return {
        "tools": [{"type": "function", "function": _function(tool)} for tool in chat.tools],
        "tool_choice": choice,
        "parallel_tool_calls": None if ask.parallel_tool_calls else False,
    }


def _function(tool: Tool) -> dict[str, object]:
    return {"name": tool.name, "description": tool.description, "parameters": tool.parameters}


def _written(base: Body, seed: int | None, is_stream: bool, has_usage: bool, **prompt: Any) -> bytes:
    changes: dict[str, Any] = prompt
    if seed is not None:
        changes["seed"] = seed
    if is_stream:
        changes["stream"] = True
        if has_usage:
            changes["stream_options"] = _USAGE
    return encode(msgspec.structs.replace(base, **changes))
