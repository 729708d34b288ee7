"""Constrained decoding: every kind of grammar, the end of an answer, its budget, and what shares the batch."""

import contextlib
import itertools
import json
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.contract.engine import tiny_models as tiny
from tests.contract.engine.test_schemas import POCKET, text_of
from trainyard.core import errors
from trainyard.engine import grammar_text, types
from trainyard.engine.core import EngineCore
from trainyard.engine.inline import InlineEngine
from trainyard.engine.tokenizer import Tokenizer
from trainyard.engine.types import Grammar

NAME_AND_AGE = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
}


@pytest.fixture(scope="module")
def core() -> EngineCore:
    return EngineCore(POCKET, "pocket", threads=1)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_directory(POCKET)


def schema(value: object) -> Grammar:
    return Grammar(kind="json_schema", text=json.dumps(value))


def request(
    tokenizer: Tokenizer, grammar: Grammar | None, name: str = "s", max_tokens: int = 40, **settings: Any
) -> types.GenerateRequest:
    prompt = tokenizer.encode_chat([{"role": "user", "content": "Tell me about the moon."}], True)
    fields: dict[str, Any] = {"stop_token_ids": tokenizer.eos_ids, "seed": 1} | settings
    sampling = types.Sampling(max_tokens=max_tokens, grammar=grammar, **fields)
    return types.GenerateRequest(stream_id=name, prompt=types.int32(prompt), sampling=sampling)


def drain(core: EngineCore, *requests: types.GenerateRequest) -> dict[str, list[types.TokenEvent]]:
    out: dict[str, list[types.TokenEvent]] = {one.stream_id: [] for one in requests}
    for one in requests:
        core.admit(one)
    while core.has_streams:
        for name, event in core.tick():
            out[name].append(event)
    return out


def answer(core: EngineCore, tokenizer: Tokenizer, grammar: Grammar, **settings: Any) -> tuple[str, str | None]:
    events = drain(core, request(tokenizer, grammar, **settings))["s"]
    return text_of(tokenizer, events), events[-1].finish


@pytest.mark.parametrize("temperature", [0.0, 1.0, 5.0])
@pytest.mark.parametrize(
    ("grammar", "pattern"),
    [
        (Grammar(kind="regex", text="[a-z]{3}-[0-9]+"), "[a-z]{3}-[0-9]+"),
        (Grammar(kind="regex", text="(ja|nein|größe|日本)"), "(ja|nein|größe|日本)"),
        (Grammar(kind="regex", text="é{40}"), "é{40}"),
        (Grammar(kind="lark", text='start: "yes" | "no"'), "yes|no"),
        (Grammar(kind="lark", text='start: item ("," item)*\nitem: /[0-9]/'), "[0-9](,[0-9])*"),
        (Grammar(kind="json_object"), r"\{.*\}"),
        (schema({"type": "string", "pattern": "^(a|b)+$"}), '"[ab]+"'),
        (schema(True), r".+"),
        (schema({}), r".+"),
    ],
)
def test_text_follows_its_grammar(
    grammar: Grammar, pattern: str, temperature: float, core: EngineCore, tokenizer: Tokenizer
) -> None:
    text, finish = answer(core, tokenizer, grammar, temperature=temperature, max_tokens=100)
    assert finish == "stop"
    assert re.fullmatch(pattern, text, re.DOTALL)
    if grammar.kind.startswith("json"):
        json.loads(text)


def test_every_budget_from_the_shortest_answer_on_is_kept(core: EngineCore, tokenizer: Tokenizer) -> None:
    shortest = len(tokenizer.encode('{"name":"","age":0}', add_special_tokens=False)) + 1
    for max_tokens in range(shortest, shortest + 12):
        events = drain(core, request(tokenizer, schema(NAME_AND_AGE), max_tokens=max_tokens, temperature=1.5))["s"]
        assert events[-1].finish == "stop"
        assert len(events) <= max_tokens
        assert set(json.loads(text_of(tokenizer, events))) == {"name", "age"}


def test_a_small_budget_finds_a_shorter_way_than_a_large_one_before(core: EngineCore, tokenizer: Tokenizer) -> None:
    grammar = schema({"anyOf": [{"type": "string", "format": "date"}, {"type": "array", "maxItems": 0}]})
    for max_tokens in (60, 4, 3, 30):
        text, finish = answer(core, tokenizer, grammar, max_tokens=max_tokens, temperature=1.0)
        assert finish == "stop"
        assert text == "[]" or max_tokens > 4
    assert answer(core, tokenizer, grammar, max_tokens=1)[1] == "length"


def test_a_budget_below_the_shortest_answer_ends_with_length(core: EngineCore, tokenizer: Tokenizer) -> None:
    text, finish = answer(core, tokenizer, schema(NAME_AND_AGE), max_tokens=4)
    assert finish == "length"
    assert text.startswith('{"')


def test_an_answer_that_ends_early_by_itself_is_the_models_own(core: EngineCore, tokenizer: Tokenizer) -> None:
    grammar = schema(NAME_AND_AGE)
    found = [answer(core, tokenizer, grammar, max_tokens=most, temperature=5.0, seed=11)[0] for most in (150, 200)]
    assert found[0] == found[1]
    assert "age" in json.loads(found[0])


def test_the_end_is_drawn_only_where_the_grammar_is_complete(core: EngineCore, tokenizer: Tokenizer) -> None:
    for seed in range(20):
        events = drain(core, request(tokenizer, Grammar(kind="regex", text="[a-c]{3,5}"), seed=seed, temperature=3.0))
        text = text_of(tokenizer, events["s"])
        assert re.fullmatch("[a-c]{3,5}", text)
        assert events["s"][-1].token in tokenizer.eos_ids


def test_a_complete_grammar_ends_the_answer_even_without_stop_tokens(core: EngineCore, tokenizer: Tokenizer) -> None:
    events = drain(core, request(tokenizer, Grammar(kind="regex", text="yes"), stop_token_ids=()))["s"]
    assert events[-1].finish == "stop"
    assert text_of(tokenizer, events) == "yes"


def test_neighbours_change_nothing(core: EngineCore, tokenizer: Tokenizer) -> None:
    kinds = [schema(NAME_AND_AGE), None, Grammar(kind="regex", text="[a-z ]{30}"), Grammar(kind="json_object"), None]
    requests = [
        request(tokenizer, kind, f"s{number}", seed=number, temperature=1.0, logprobs=0)
        for number, kind in enumerate(kinds)
    ]
    together = drain(core, *requests)
    for one in requests:
        alone = drain(core, one)[one.stream_id]
        assert [event.token for event in alone] == [event.token for event in together[one.stream_id]]


def test_log_probabilities_are_the_models_before_the_mask(core: EngineCore, tokenizer: Tokenizer) -> None:
    grammar = Grammar(kind="lark", text='start: "zebra"')
    forced = drain(core, request(tokenizer, grammar, logprobs=3, temperature=0.0))["s"]
    free = drain(core, request(tokenizer, None, logprobs=3, temperature=0.0, max_tokens=1))["s"]
    assert [pair[0] for pair in forced[0].top] == [pair[0] for pair in free[0].top]
    assert [pair[1] for pair in forced[0].top] == pytest.approx([pair[1] for pair in free[0].top])
    assert forced[0].logprob < free[0].logprob


def test_penalties_work_inside_a_grammar(core: EngineCore, tokenizer: Tokenizer) -> None:
    grammar = Grammar(kind="regex", text="[ab]{12}")
    flat = answer(core, tokenizer, grammar, temperature=0.0)[0]
    mixed = answer(core, tokenizer, grammar, temperature=0.0, frequency_penalty=2.0, presence_penalty=2.0)[0]
    assert re.fullmatch("[ab]{12}", mixed)
    assert mixed != flat


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        (Grammar(kind="regex", text="("), "unclosed group"),
        (Grammar(kind="regex", text="a\\\\\\"), "a lone backslash ends it"),
        (Grammar(kind="lark", text="start: missing"), "missing"),
        (Grammar(kind="json_schema", text="{"), "not JSON"),
        (Grammar(kind="json_schema", text="[1]"), "a JSON schema is an object"),
        (Grammar(kind="json_schema", text="[" * 50_000), "not JSON"),
        (Grammar(kind="json_schema", text='{"a":' * 100 + "1" + "}" * 100), "nested deeper than 64"),
        (Grammar(kind="json_schema", text=" " * 70_000), "longer than 65536 bytes"),
        (schema({"$ref": "#"}), "no text satisfies it"),
        (schema({"$ref": "https://example.org/schema.json"}), "not present in a registry"),
        (schema({"not": {"type": "string"}}), 'Unimplemented keys: ."not".'),
        (schema({"type": "array", "uniqueItems": True}), 'Unimplemented keys: ."uniqueItems".'),
        (schema({"allOf": [{"type": "string"}, {"type": "integer"}]}), "Unsatisfiable"),
        (schema({"type": "object", "minProperties": 2}), "minProperties above the number of required names"),
        (schema({"x-guidance": {"lenient": True}, "not": {}}), "x-guidance is no keyword here"),
        (schema({"oneOf": [{"type": "integer"}, {"type": "number"}]}), "branches of `oneOf` that may hold together"),
        (schema({"const": -(2**63)}), "beyond 2.53 - 1"),
        (schema({"enum": [1, {"a": [2**53]}]}), "beyond 2.53 - 1"),
        (schema({"type": "integer", "minimum": 2**60 + 1}), "beyond 2.53 - 1"),
        (Grammar(kind="lark", text='start: "a" %json\n {"const": -9223372036854775808}'), "beyond 2.53 - 1"),
    ],
)
def test_a_bad_grammar_is_refused_with_its_reason_on_both_sides(
    grammar: Grammar, reason: str, core: EngineCore, tokenizer: Tokenizer
) -> None:
    for refuse in (grammar_text.validate_grammar, lambda bad: core.admit(request(tokenizer, bad))):
        with pytest.raises(errors.InvalidRequest, match=reason) as caught:
            refuse(grammar)
        assert caught.value.code == "invalid_grammar"
    assert not core.has_streams


@pytest.mark.parametrize(
    "grammar",
    [
        schema({"enum": [f"name {n}" for n in range(4000)]}),
        schema({"type": "object", "properties": {f"p{n}": {"type": "integer"} for n in range(1000)}}),
        schema({"type": "string", "pattern": "^((a?){60}(a|b)*){30}$"}),
        schema({"type": "string", "minLength": 100_000}),
        schema({"type": "array", "minItems": 100_000, "items": {"type": "integer"}}),
        Grammar(kind="regex", text="((((a{1,100}){1,100}){1,100}){1,100}){1,100}"),
        Grammar(kind="regex", text="(.*a.*b.*c.*d.*e.*f){9}"),
        Grammar(kind="regex", text="a{100000}"),
        Grammar(kind="regex", text="(((a{1000}){1000}){1000}){1000}"),
        Grammar(kind="lark", text="start: " + "|".join(['"a"'] * 15_000)),
    ],
)
def test_hostile_grammars_take_bounded_time(grammar: Grammar, core: EngineCore, tokenizer: Tokenizer) -> None:
    started = time.process_time()
    with contextlib.suppress(errors.InvalidRequest):  # refused or begun: both are fine
        drain(core, request(tokenizer, grammar, max_tokens=8))
    core.failures()
    assert time.process_time() - started < 2.5


@pytest.mark.parametrize("name", ["r{}", "R{}"])
def test_thousands_of_rules_that_name_each_other_are_compiled(
    name: str, core: EngineCore, tokenizer: Tokenizer
) -> None:
    names = [name.format(number) for number in range(5000)]
    lines = [f"{one}:{other}" for one, other in itertools.pairwise(names)]
    text = "\n".join([f"start: {names[0]}", *lines, f'{names[-1]}:"ab"', ""])
    assert answer(core, tokenizer, Grammar(kind="lark", text=text), max_tokens=8)[0] == "ab"


def test_a_grammar_that_becomes_too_complex_ends_its_stream_alone(core: EngineCore, tokenizer: Tokenizer) -> None:
    ambiguous = {f"p{n}": {"type": "string", "pattern": f"^(a|b)*a(a|b){{{n + 50}}}$"} for n in range(20)}
    hostile = schema({"anyOf": [{"type": "object", "properties": ambiguous}] * 30})
    out = drain(core, request(tokenizer, hostile, "bad", max_tokens=60), request(tokenizer, None, "good"))
    assert out["good"][-1].finish is not None
    assert [(name, error.code) for name, error in core.failures()] == [("bad", "grammar_too_complex")]
    assert core.failures() == []


async def test_a_stream_whose_grammar_fails_ends_with_the_error_for_its_reader(core: EngineCore) -> None:
    tokenizer = Tokenizer.from_directory(POCKET)
    ambiguous = {f"p{n}": {"type": "string", "pattern": f"^(a|b)*a(a|b){{{n + 50}}}$"} for n in range(20)}
    hostile = schema({"anyOf": [{"type": "object", "properties": ambiguous}] * 30})
    engine = InlineEngine(core)
    with pytest.raises(errors.InvalidRequest, match="too complex to follow") as caught:
        async for _event in engine.generate(request(tokenizer, hostile, max_tokens=60)):
            pass
    assert caught.value.code == "grammar_too_complex"
    assert (await engine.stats()).active_streams == 0
    await engine.aclose()


def test_a_model_without_a_tokenizer_follows_no_grammar(tmp_path: Path) -> None:
    bare = EngineCore(tiny.save_random("llama", tmp_path), "tiny")
    sampling = types.Sampling(max_tokens=4, grammar=Grammar(kind="json_object"))
    with pytest.raises(errors.InvalidRequest, match="no tokenizer") as caught:
        bare.admit(types.GenerateRequest(stream_id="s", prompt=types.int32([1]), sampling=sampling))
    assert caught.value.code == "invalid_grammar"
