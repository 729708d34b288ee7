"""Grammars as llguidance reads them: what a request asks for, checked and bounded; free of torch and of a vocabulary.

Used on both sides: the HTTP process refuses a bad grammar before it takes anything from a limit, the engine compiles.
"""

import functools
import json
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import llguidance

from trainyard.core import errors
from trainyard.engine.types import Grammar

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions  # named in its types only

MAX_TEXT_BYTES: Final = 64 * 1024
"""Longest schema, expression or grammar; the slowest kinds of that length compile in 20 ms (JSON) and 150 ms (Lark)."""
MAX_DEPTH: Final = 64
"""Deepest nesting of a schema's text; the published collections of real schemas stay under 30."""
LIMITS: Final = llguidance.LLParserLimits(
    initial_lexer_fuel=500_000,  # 10 ms by llguidance's own rate
    step_lexer_fuel=50_000,  # 4 ms a token
    step_max_items=20_000,  # 1 ms a token
    max_lexer_states=50_000,  # 100 MB at most by llguidance's own measure
    max_grammar_size=200_000,
    verbose_errors=False,
)
"""A grammar that needs more is refused, or ends its stream with `grammar_too_complex` where that shows only later."""
_JSON_OPTIONS: "Final[JsonCompileOptions]" = {
    "whitespace_flexible": False,  # a model could write spaces until its budget is over
    "json_allowed_escapes": '"\\bfnrt',  # with \\u or \\/ a name could be spelled in a second way and miss its schema
}
_COUNT: Final = re.compile(r'(?:"min(?:Length|Items|Properties)"\s*:\s*|[{~])([0-9]{1,9})')
_FEW_REPEATED: Final = 16
_ANY_OBJECT: Final = '{"type":"object"}'


def validate_grammar(grammar: Grammar) -> None:
    """Refuse what no engine can follow.

    Raises:
        errors.InvalidRequest: Code `invalid_grammar`; the message gives the reason.
    """
    _validated(grammar)


@functools.lru_cache(maxsize=256)
def _validated(grammar: Grammar) -> None:
    matcher = llguidance.LLMatcher(_bytes_vocabulary(), source_of(grammar), log_level=0, limits=LIMITS)
    check_start(matcher)


def check_start(matcher: llguidance.LLMatcher) -> None:
    """Refuse a matcher that was not built or that admits no text at all."""
    if not matcher.is_error():
        matcher.compute_bitmask()
    if matcher.is_error():
        raise invalid(matcher.get_error())


def source_of(grammar: Grammar) -> str:
    """Translate a grammar into llguidance's own form.

    Raises:
        errors.InvalidRequest: Code `invalid_grammar`: too long, too deep, not JSON, or a keyword that cannot be kept.
    """
    if len(grammar.text.encode()) > MAX_TEXT_BYTES:
        raise invalid(f"it is longer than {MAX_TEXT_BYTES} bytes")
    match grammar.kind:
        case "regex":
            return llguidance.LLMatcher.grammar_from_regex(grammar.text)
        case "lark":
            return llguidance.LLMatcher.grammar_from_lark(grammar.text)
        case "json_object":
            return _from_schema(_ANY_OBJECT)
        case "json_schema":
            return _from_schema(json.dumps(_read_schema(grammar.text)))


def _from_schema(text: str) -> str:
    try:
        return llguidance.LLMatcher.grammar_from_json_schema(text, overrides=_JSON_OPTIONS)
    except ValueError as error:
        raise invalid(str(error)) from error


def _read_schema(text: str) -> dict[str, Any]:
    try:
        schema = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise invalid(f"it is not JSON: {error}") from error
    if schema is True:
        return {}
    if not isinstance(schema, dict):
        raise invalid("a JSON schema is an object (or true)")
    for node, depth in _objects(schema):
        if depth > MAX_DEPTH:
            raise invalid(f"it is nested deeper than {MAX_DEPTH} levels")
        _check_node(node)
    return schema


def _objects(root: object) -> Iterator[tuple[dict[str, Any], int]]:
    waiting: list[tuple[object, int]] = [(root, 1)]
    while waiting:
        node, depth = waiting.pop()
        if isinstance(node, dict):
            yield node, depth
            waiting += [(child, depth + 1) for child in node.values()]
        elif isinstance(node, list):
            waiting += [(child, depth + 1) for child in node]


def _check_node(node: dict[str, Any]) -> None:
    """Refuse what llguidance would keep only in part: it lets free names occur twice, so it cannot count them."""
    fewest, required = node.get("minProperties"), node.get("required")
    named = len(set(map(str, required))) if isinstance(required, list) else 0
    if isinstance(fewest, int) and fewest > max(1, named):
        raise invalid("minProperties above the number of required names cannot be kept; name them under `required`")


@functools.cache
def _bytes_vocabulary() -> llguidance.LLTokenizer:
    return llguidance.LLTokenizer("byte")


def invalid(reason: str) -> errors.InvalidRequest:
    """Make the error that refuses a grammar."""
    plain = "no text satisfies it" if "NoExtension" in reason else reason.removesuffix("<non-verbose/>").strip()
    return errors.InvalidRequest(f"the grammar cannot be used: {plain}", code="invalid_grammar", param="grammar")


def longest_jump(grammar: Grammar) -> int:
    """Bound by how many tokens one token can lengthen the shortest way to the end of the text.

    What a text must hold is written out in its grammar letter by letter, but for counts: repetitions that multiply to
    more than a few leave no bound worth the name.
    """
    repeated = math.prod(int(number) for number in _COUNT.findall(grammar.text) if int(number) > 0)
    return len(grammar.text.encode()) * repeated + 16 if repeated <= _FEW_REPEATED else 1 << 30
