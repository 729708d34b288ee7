"""Tool calls: the grammar, how a model sees tools, and how calls come out of a text in pieces."""

import json
import random
from typing import Any

import llguidance
import pytest

from trainyard.core import errors
from trainyard.engine import grammar_text
from trainyard.engine.types import Grammar
from trainyard.serving import tools
from trainyard.serving.tools_reader import ToolReader
from trainyard.serving.types import Chat, Tool, ToolDelta, pieces
from trainyard.serving.types.domain import Piece

ADD = Tool("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
SAY = Tool(
    "say", "", {"type": "object", "properties": {"t": {"$ref": "#/$defs/t"}}, "$defs": {"t": {"type": "string"}}}
)
NOW = Tool("now", "", {})
ALL = (ADD, SAY, NOW)
BYTES = llguidance.LLTokenizer("byte")


def call(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name":"{name}","arguments":{arguments}}}\n</tool_call>'


ONE, TWO = call("add", '{"a":1}'), call("say", '{"t":"x } \\" ]"}')


def admits(grammar: Grammar, text: str) -> bool:
    """Whether a text is a whole one of the grammar."""
    grammar_text.validate_grammar(grammar)
    matcher = llguidance.LLMatcher(BYTES, grammar_text.source_of(grammar), log_level=0, limits=grammar_text.LIMITS)
    ids = list(text.encode())
    return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()


@pytest.mark.parametrize(
    ("choice", "is_parallel", "text", "is_good"),
    [
        ("required", True, ONE, True),
        ("required", True, f"{ONE}\n{TWO}\n{call('now', '{}')}", True),
        ("required", False, ONE, True),
        ("required", False, f"{ONE}\n{TWO}", False),
        ("required", True, "", False),
        ("required", True, "hello", False),
        ("required", True, f"hello\n{ONE}", False),
        ("required", True, call("sub", "{}"), False),
        ("required", True, call("add", "{}"), False),
        ("required", True, call("add", '{"a":"1"}'), False),
        ("required", True, call("add", '{"a":1,"b":2}'), False),
        ("required", True, call("now", '{"a":1}'), False),
        ("required", True, ONE.replace(',"', ', "'), False),
        ("add", True, ONE, True),
        ("add", True, TWO, False),
        ("add", True, f"{ONE}\n{ONE}", False),
        ("auto", True, "", True),
        ("auto", True, 'Just "text" <tool_ca and {more', True),
        ("auto", True, ONE, True),
        ("auto", True, f"Let me see.\n{ONE}\n{TWO}", True),
        ("auto", False, f"Let me see.\n{ONE}\n{TWO}", False),
        ("auto", True, "Here: <tool_call> and no call", False),
        ("auto", True, f"{ONE} and more", False),
    ],
)
def test_the_grammar_admits_what_the_choice_allows(choice: str, is_parallel: bool, text: str, is_good: bool) -> None:
    assert admits(tools.grammar(ALL, choice, is_parallel=is_parallel, form=None), text) is is_good


@pytest.mark.parametrize(
    ("choice", "text", "is_good"),
    [
        ("auto", '{"name":"add","parameters":{"a":1}}', True),
        ("auto", "Just text {", True),
        ("auto", '{"other":1}', True),
        ("auto", '{"name":"add","parameters":{}}', False),
        ("auto", '{"name":"somebody"}', False),
        ("required", '{"name":"now","parameters":{}}', True),
        ("required", '{"name":"now","parameters":{}}{"name":"now","parameters":{}}', False),
        ("required", "hello", False),
    ],
)
def test_a_model_of_llamas_kind_calls_in_its_own_way(choice: str, text: str, is_good: bool) -> None:
    assert admits(tools.grammar(ALL, choice, is_parallel=True, form=None, style=tools.LLAMA), text) is is_good


@pytest.mark.parametrize(
    ("template", "style"),
    [
        (None, tools.HERMES),
        ("{{ messages }}", tools.HERMES),
        ("{{ '<tool_call>' }}{% if tools %}\"parameters\"{% endif %}", tools.HERMES),
        ('{{ \'{"name": "\' + call.name + \'", "parameters": \' }}', tools.LLAMA),
    ],
)
def test_the_way_of_calling_is_told_by_the_template(template: str | None, style: tools.Style) -> None:
    assert tools.style_of(template) is style


@pytest.mark.parametrize(
    ("text", "said", "calls"),
    [
        ('{"name":"add","parameters":{"a":{"b":1}}}', "", [("add", '{"a":{"b":1}}')]),
        ('{"nam', '{"nam', []),
        ('{"nameless":1}', '{"nameless":1}', []),
        ('Say {"name":"add","parameters":{}}', 'Say {"name":"add","parameters":{}}', []),
        ("", "", []),
    ],
)
def test_calls_of_llamas_kind_are_whole_answers(text: str, said: str, calls: list[tuple[str, str]]) -> None:
    for size in (1, 3, 100):
        shown, whole, _ = read([text[at : at + size] for at in range(0, len(text), size)], tools.LLAMA)
        assert shown == said
        assert [(one.name, one.arguments) for one in whole] == calls


def test_text_beside_tools_keeps_its_form() -> None:
    schema = {"type": "object", "properties": {"z": {"type": "null"}}, "required": ["z"]}
    form = Grammar(kind="json_schema", text=json.dumps(schema))
    made = tools.grammar(ALL, "auto", is_parallel=True, form=form)
    assert admits(made, '{"z":null}')
    assert admits(made, ONE)
    assert not admits(made, "hello")
    assert admits(tools.grammar(ALL, "auto", is_parallel=True, form=Grammar(kind="json_object")), '{"any":[1]}')
    with pytest.raises(errors.InvalidRequest, match="regex cannot be combined"):
        tools.grammar(ALL, "auto", is_parallel=True, form=Grammar(kind="regex", text="a"))


@pytest.mark.parametrize("parameters", [{"not": {}}, {"type": "object", "if": {}}, {"$ref": "#"}, {"minProperties": 3}])
def test_arguments_that_cannot_be_kept_are_refused_with_the_name_of_the_tool(parameters: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidRequest, match="parameters of tool odd cannot be kept") as caught:
        tools.grammar([ADD, Tool("odd", "", parameters)], "auto", is_parallel=True, form=None)
    assert (caught.value.code, caught.value.param) == ("invalid_function_parameters", "tools")


def read(parts: list[str], style: tools.Style = tools.HERMES) -> tuple[str, tuple[ToolDelta, ...], list[ToolDelta]]:
    reader = ToolReader(style)
    said, deltas = "", list[ToolDelta]()
    for part in parts:
        text, new = reader.push(part)
        said += text
        deltas += new
    said += reader.flush()
    whole = pieces.join([Piece(tool_calls=tuple(deltas)), Piece(finish_reason="stop")])
    return said, whole.tool_calls, deltas


@pytest.mark.parametrize(
    ("text", "said", "calls"),
    [
        ("", "", []),
        ("hello <tool", "hello <tool", []),
        (ONE, "", [("add", '{"a":1}')]),
        (f"{ONE}\n{TWO}", "", [("add", '{"a":1}'), ("say", '{"t":"x } \\" ]"}')]),
        (f"Let me see <b>.\n{TWO}", "Let me see <b>.\n", [("say", '{"t":"x } \\" ]"}')]),
        (call("add", '{"a":{"b":[1,{}]}}'), "", [("add", '{"a":{"b":[1,{}]}}')]),
        ('<tool_call>\n{"name":"add","arguments":{"a"', "", [("add", '{"a"')]),
        ("<tool_call>\n{", "", []),
    ],
)
def test_calls_come_out_of_a_text_however_it_is_cut(text: str, said: str, calls: list[tuple[str, str]]) -> None:
    for seed in range(20):
        rng, parts, rest = random.Random(seed), list[str](), text
        while rest:
            size = rng.randrange(1, 9) if seed else len(rest)
            parts.append(rest[:size])
            rest = rest[size:]
        shown, whole, _ = read(parts)
        assert shown == said
        assert [(one.name, one.arguments) for one in whole] == calls


def test_a_call_has_an_id_of_its_own_with_its_first_part_only() -> None:
    _, _, deltas = read(list(f"{ONE}\n{ONE}"))
    firsts = [delta for delta in deltas if delta.id is not None]
    assert [delta.index for delta in firsts] == [0, 1]
    assert len({delta.id for delta in firsts}) == 2
    assert all((delta.id or "").startswith("call_") and delta.name == "add" for delta in firsts)


CALLED: dict[str, Any] = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}],
}
TURNS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is it?"},
    CALLED,
    {"role": "tool", "tool_call_id": "call_1", "content": "42"},
    {"role": "tool", "tool_call_id": "call_1", "content": "43"},
]


def test_a_template_that_knows_no_tools_reads_them_as_text() -> None:
    said = tools.turns(Chat(TURNS, ALL), knows_tools=False, shows_tools=True)
    assert [turn["role"] for turn in said] == ["system", "user", "assistant", "user"]
    assert said[0]["content"].startswith("Be brief.\n\nYou may call functions")
    assert all(json.dumps(tools.shape(tool)) in said[0]["content"] for tool in ALL)
    assert said[2]["content"] == ONE
    assert said[3]["content"] == ("<tool_response>\n42\n</tool_response>\n<tool_response>\n43\n</tool_response>")


def test_without_a_system_turn_one_is_made_and_without_a_choice_none_is() -> None:
    chat = Chat(TURNS[1:2], ALL)
    assert [turn["role"] for turn in tools.turns(chat, knows_tools=False, shows_tools=True)] == ["system", "user"]
    assert tools.turns(chat, knows_tools=False, shows_tools=False) == [TURNS[1]]


def test_a_template_that_knows_tools_gets_arguments_as_objects() -> None:
    said = tools.turns(Chat(TURNS, ALL), knows_tools=True, shows_tools=True)
    assert said[2]["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 1}}
    assert said[3] == TURNS[3]


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"type": "string"}, "must be of type object"),
        ({"type": ["object", "null"]}, "must be of type object"),
        ({"type": "object", "not": {}}, 'cannot be kept: Unimplemented keys: ["not"]'),
        ({"type": "object", "properties": {"a": {"const": -(2**63)}}}, "beyond 2^53 - 1"),
    ],
    ids=str,
)
def test_parameters_that_no_call_can_hold_are_refused_without_the_grammar_around_them(
    parameters: dict[str, Any], reason: str
) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        tools.grammar([Tool("f", "", parameters)], "auto", is_parallel=True, form=None)
    assert (caught.value.code, caught.value.param) == ("invalid_function_parameters", "tools")
    assert reason in caught.value.message
    assert "\n" not in caught.value.message
