"""Requests in OpenAI's words, brought into those of the service."""

from collections.abc import Sequence
from typing import Any

import msgspec

from trainyard.core import errors
from trainyard.engine.types import Grammar
from trainyard.serving.types import Ask, Chat, ChatRequest, CompletionRequest, Tool, fields
from trainyard.serving.types.openai_tools import NamedTool

COMPLETION_MAX_TOKENS = 16  # OpenAI's default for completions; chats may use what the context leaves
CHAT_MAX_TOKENS = 1_000_000


def of_chat(body: ChatRequest) -> Ask:
    """Read a chat.

    Raises:
        errors.InvalidRequest: Fields contradict each other.
    """
    _check_stream_options(body)
    if body.max_tokens is not None and body.max_completion_tokens not in (None, body.max_tokens):
        raise errors.InvalidRequest(
            "max_tokens and max_completion_tokens differ; send one of them", param="max_completion_tokens"
        )
    if body.top_logprobs is not None and not body.logprobs:
        raise errors.InvalidRequest("top_logprobs needs logprobs: true", param="top_logprobs")
    _check_turns(body)
    tools = _tools(body)
    return Ask(
        prompts=[Chat([message.as_turn() for message in body.messages], tools)],
        param="messages",
        max_tokens=body.max_completion_tokens or body.max_tokens,
        default_max_tokens=CHAT_MAX_TOKENS,
        logprobs=(body.top_logprobs or 0) if body.logprobs else -1,
        form=_form(body),
        tool_choice=_choice(body, tools),
        parallel_tool_calls=body.parallel_tool_calls is not False,
        **_sampling(body),
    )


def of_completion(body: CompletionRequest) -> Ask:
    """Read a completion.

    Raises:
        errors.InvalidRequest: Fields contradict each other, or a prompt is empty.
    """
    _check_stream_options(body)
    if body.echo:
        raise errors.InvalidRequest("echo is not available; put the prompt before the answer yourself", param="echo")
    return Ask(
        prompts=prompts(body.prompt, "prompt"),
        param="prompt",
        max_tokens=body.max_tokens,
        default_max_tokens=COMPLETION_MAX_TOKENS,
        logprobs=-1 if body.logprobs is None else body.logprobs,
        **_sampling(body),
    )


def prompts(given: str | Sequence[str | int | list[int]], param: str) -> list[str | Sequence[int]]:
    """Tell the four forms of a prompt apart.

    Raises:
        errors.InvalidRequest: It is a mixture, or one of several is empty.
    """
    if isinstance(given, str):
        return [given]
    ids = [one for one in given if isinstance(one, int)]
    if len(ids) == len(given):
        return [ids]
    several: list[str | Sequence[int]] = [one for one in given if not isinstance(one, int)]
    if len(several) < len(given) or len({type(one) for one in several}) > 1:
        raise errors.InvalidRequest(
            f"{param} must be a text, a list of texts, a list of token ids, or a list of such lists; not a mixture",
            param=param,
        )
    if not all(several):
        raise errors.InvalidRequest(f"A {param} is empty; give at least one character or token id", param=param)
    return several


def _sampling(body: ChatRequest | CompletionRequest) -> dict[str, Any]:
    return {
        "model": body.model,
        "n": body.n or 1,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "top_p": body.top_p or 1.0,
        "top_k": body.top_k or 0,
        "min_p": body.min_p or 0.0,
        "presence_penalty": body.presence_penalty or 0.0,
        "frequency_penalty": body.frequency_penalty or 0.0,
        "stop": fields.stop_tuple(body.stop),
        "seed": body.seed,
        "end_user": body.user,
    }


def _check_stream_options(body: ChatRequest | CompletionRequest) -> None:
    if body.stream_options is not None and not body.stream:
        raise errors.InvalidRequest("stream_options needs stream: true", param="stream_options")


def _check_turns(body: ChatRequest) -> None:
    called: set[str] = set()
    for at, message in enumerate(body.messages):
        fault = message.fault()
        if fault is None and message.role == "tool" and message.tool_call_id not in called:
            fault = "tool_call_id names no call of an earlier turn"
        if fault is not None:
            raise errors.InvalidRequest(f"messages[{at}]: {fault}", param=f"messages[{at}]")
        called.update([call.id for call in message.tool_calls or ()])


def _form(body: ChatRequest) -> Grammar | None:
    asked = body.response_format
    if asked is None:
        return None
    if (asked.json_schema is not None) != (asked.type == "json_schema"):
        raise errors.InvalidRequest(
            "response_format.json_schema belongs to type json_schema, and has to be there", param="response_format"
        )
    if asked.json_schema is not None:
        return Grammar(kind="json_schema", text=msgspec.json.encode(asked.json_schema.schema).decode())
    return Grammar(kind="json_object") if asked.type == "json_object" else None


def _tools(body: ChatRequest) -> tuple[Tool, ...]:
    found = [tool.function for tool in body.tools or ()]
    if len({one.name for one in found}) < len(found):
        raise errors.InvalidRequest("Two tools have the same name", param="tools")
    return tuple([Tool(one.name, one.description or "", one.parameters or {}) for one in found])


def _choice(body: ChatRequest, tools: Sequence[Tool]) -> str:
    choice = body.tool_choice or "auto"
    if not tools:
        for name in ("tool_choice", "parallel_tool_calls"):
            if getattr(body, name) not in (None, "none"):
                raise errors.InvalidRequest(f"{name} needs tools", param=name)
        return "auto"
    if not isinstance(choice, NamedTool):
        return choice
    name = choice.function.name
    if name not in [tool.name for tool in tools] or name in ("auto", "none", "required"):
        reason = "is none of tools" if name not in ("auto", "none", "required") else "has a meaning of its own"
        raise errors.InvalidRequest(f"tool_choice names {name}, which {reason}", param="tool_choice")
    return name
