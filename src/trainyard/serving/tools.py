"""Tool calls of models that run here: how they see the tools, and the grammar that keeps their calls whole.

A call is written as Qwen's and Nous' Hermes models were taught to: JSON between `<tool_call>` and `</tool_call>`.

Source:
    Qwen2.5's and Hermes 2 Pro's published chat templates.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from trainyard.core import errors
from trainyard.engine import grammar_text
from trainyard.engine.types import Grammar
from trainyard.serving.types import Chat, Tool

OPEN: Final = "<tool_call>"
CLOSE: Final = "</tool_call>"
MAX_CALLS: Final = 8
"""Calls that one answer may hold."""

_INTRODUCTION: Final = """\
You may call functions to answer the user. They are listed here, with the JSON schema of their arguments:
<tools>
{tools}
</tools>
To call one, answer with its name and arguments as JSON, like this:
<tool_call>
{{"name":"NAME","arguments":{{}}}}
</tool_call>"""


def grammar(tools: Sequence[Tool], choice: str, *, is_parallel: bool, form: Grammar | None) -> Grammar:
    """Say what an answer may be: a call or several, and where the choice is `auto`, text or the form as well.

    Raises:
        errors.InvalidRequest: The arguments of a tool, or the form, cannot be kept; `param` names it.
    """
    named = choice not in ("auto", "required")
    chosen = [tool for tool in tools if not named or tool.name == choice]
    more = f'("\\n{OPEN}" body){{0,{MAX_CALLS - 1}}}' if is_parallel and not named else ""
    rules = [f'body: "\\n" ({" | ".join(f"call_{at}" for at in range(len(chosen)))}) "\\n{CLOSE}"']
    for at, tool in enumerate(chosen):
        head = json.dumps(f'{{"name":{json.dumps(tool.name)},"arguments":')
        rules += [f'call_{at}: {head} args_{at} "}}"', f"args_{at}: %json {_arguments(tool)}"]
    return Grammar(kind="lark", text="\n".join([*_start(choice, more, form), *rules, ""]))


def _start(choice: str, more: str, form: Grammar | None) -> list[str]:
    calls = f'"{OPEN}" body {more}'
    if choice != "auto":
        return [f"start: {calls}"]
    if form is not None:
        return [f"start: form | {calls}", f"form: {_form(form)}"]
    return [
        f"start: TEXT | lead body {more}",
        f"TEXT: /(.|\\n)*/ & ~/(.|\\n)*{OPEN}(.|\\n)*/",
        f"lead[lazy]: /(.|\\n)*{OPEN}/",
    ]


def _form(form: Grammar) -> str:
    if form.kind not in ("json_schema", "json_object"):
        raise errors.InvalidRequest(
            f"A {form.kind} cannot be combined with tools; leave one of them out",
            code="unsupported_parameter",
            param="tools",
        )
    schema = {"type": "object"} if form.kind == "json_object" else json.loads(form.text)
    return f"%json {grammar_text.schema_block(schema if isinstance(schema, dict) else {})}"


def _arguments(tool: Tool) -> str:
    schema = dict(tool.parameters) or {"type": "object", "properties": {}, "additionalProperties": False}
    schema.setdefault("type", "object")
    try:
        block = grammar_text.schema_block(schema)  # each tool by itself, so that the error can name it
        grammar_text.validate_grammar(Grammar(kind="lark", text=f"start: %json {block}\n"))
    except errors.InvalidRequest as error:
        message = f"The parameters of tool {tool.name} cannot be kept: {error.message}"
        raise errors.InvalidRequest(message, code="invalid_function_parameters", param="tools") from error
    return block


def shape(tool: Tool) -> dict[str, Any]:
    """Write a tool as OpenAI does, which is how chat templates read it."""
    function = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters)}
    return {"type": "function", "function": function}


def turns(chat: Chat, *, knows_tools: bool, shows_tools: bool) -> list[dict[str, Any]]:
    """Write the turns of a chat for a chat template.

    Args:
        chat: The chat.
        knows_tools: The template writes tools, calls and their results by itself.
        shows_tools: The model may call tools now.
    """
    if knows_tools:
        return [_with_objects(turn) for turn in chat.messages]
    said = [_as_text(turn) for turn in chat.messages]
    if not shows_tools or not chat.tools:
        return _joined(said)
    listed = "\n".join(json.dumps(shape(tool), ensure_ascii=False) for tool in chat.tools)
    introduction = _INTRODUCTION.format(tools=listed)
    if said and said[0]["role"] == "system":
        introduction, said = f"{said[0]['content']}\n\n{introduction}", said[1:]
    return _joined([{"role": "system", "content": introduction}, *said])


def _with_objects(turn: Mapping[str, object]) -> dict[str, Any]:
    """Give calls as templates read them: arguments as an object and no JSON text."""
    calls = turn.get("tool_calls")
    if not isinstance(calls, Sequence) or not calls:
        return {name: value for name, value in turn.items() if name != "tool_calls"}
    return {**turn, "content": turn.get("content") or "", "tool_calls": [_with_object(call) for call in calls]}


def _with_object(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {**call, "function": {**function, "arguments": _read(function["arguments"])}}


def _read(arguments: str) -> object:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments  # as the model of another server wrote it


def _as_text(turn: Mapping[str, object]) -> dict[str, Any]:
    """Write calls and results into the text of their turns."""
    content = turn.get("content") or ""
    calls = turn.get("tool_calls")
    if turn["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"}
    if not isinstance(calls, Sequence) or not calls:
        return {"role": turn["role"], "content": content}
    written = [str(content)] if content else []
    for call in calls:
        said = {"name": call["function"]["name"], "arguments": _read(call["function"]["arguments"])}
        text = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
        written.append(f"{OPEN}\n{text}\n{CLOSE}")
    return {"role": turn["role"], "content": "\n".join(written)}


def _joined(said: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Put results that follow each other into one turn, since templates may want the roles to alternate."""
    out: list[dict[str, Any]] = []
    for turn in said:
        is_result = turn["role"] == "user" and str(turn["content"]).startswith("<tool_response>")
        if is_result and out and out[-1]["role"] == "user" and out[-1]["content"].endswith("</tool_response>"):
            out[-1]["content"] += f"\n{turn['content']}"
        else:
            out.append(dict(turn))
    return out
