"""Tool calls of models that run here: how they see the tools, and the grammar that keeps their calls whole."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from trainyard.core import errors
from trainyard.engine import grammar_text
from trainyard.engine.types import Grammar
from trainyard.serving.types import Chat, Tool


@dataclass(frozen=True, slots=True)
class Style:
    """How a family of models writes a call.

    Attributes:
        opener: Stands before it; empty = an answer that begins with a call is one.
        closer: Stands behind it.
        arguments: Key of the arguments, beside `name`.
    """

    opener: str
    closer: str
    arguments: str

    @property
    def may_repeat(self) -> bool:
        """Whether an answer can hold text before calls, and several calls."""
        return bool(self.opener)


HERMES: Final = Style("<tool_call>", "</tool_call>", "arguments")
"""Source: the published chat templates of Qwen2.5, Qwen3 and Hermes 2 Pro."""
LLAMA: Final = Style("", "", "parameters")
"""Source: the published chat templates of Llama 3.1 to 3.3."""
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


def style_of(template: str | None) -> Style:
    """Tell by a chat template how its model was taught to call."""
    source = template or ""
    return LLAMA if '"parameters"' in source and HERMES.opener not in source else HERMES


def grammar(
    tools: Sequence[Tool], choice: str, *, is_parallel: bool, form: Grammar | None, style: Style = HERMES
) -> Grammar:
    """Say what an answer may be: a call or several, and where the choice is `auto`, text or the form as well.

    Raises:
        errors.InvalidRequest: The arguments of a tool, or the form, cannot be kept; `param` names it.
    """
    named = choice not in ("auto", "required")
    chosen = [tool for tool in tools if not named or tool.name == choice]
    is_repeated = is_parallel and not named and style.may_repeat
    more = f'("\\n{style.opener}" body){{0,{MAX_CALLS - 1}}}' if is_repeated else ""
    call = f"({' | '.join(f'call_{at}' for at in range(len(chosen)))})"
    rules = [f'body: "\\n" {call} "\\n{style.closer}"' if style.opener else f"body: {call}"]
    for at, tool in enumerate(chosen):
        head = json.dumps(f'{{"name":{json.dumps(tool.name)},"{style.arguments}":')
        rules += [f'call_{at}: {head} args_{at} "}}"', f"args_{at}: %json {_arguments(tool)}"]
    return Grammar(kind="lark", text="\n".join([*_start(choice, more, form, style), *rules, ""]))


def _start(choice: str, more: str, form: Grammar | None, style: Style) -> list[str]:
    calls = f'"{style.opener}" body {more}' if style.opener else "body"
    if choice != "auto":
        return [f"start: {calls}"]
    if form is not None:
        return [f"start: form | {calls}", f"form: {_form(form)}"]
    if not style.opener:
        return [f"start: TEXT | {calls}", 'TEXT: /(.|\\n)*/ & ~/\\{"name":(.|\\n)*/']
    return [
        f"start: TEXT | lead body {more}",
        f"TEXT: /(.|\\n)*/ & ~/(.|\\n)*{style.opener}(.|\\n)*/",
        f"lead[lazy]: /(.|\\n)*{style.opener}/",
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
    if schema.setdefault("type", "object") != "object":
        message = f"The parameters of tool {tool.name} must be of type object"
        raise errors.InvalidRequest(message, code="invalid_function_parameters", param="tools")
    try:
        block = grammar_text.schema_block(schema)  # each tool by itself, so that the error can name it
        grammar_text.validate_grammar(Grammar(kind="lark", text=f"start: %json {block}\n"))
    except errors.InvalidRequest as error:
        message = f"The parameters of tool {tool.name} cannot be kept: {grammar_text.reason_in_block(error)}"
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
        written.append(f"{HERMES.opener}\n{text}\n{HERMES.closer}")
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
