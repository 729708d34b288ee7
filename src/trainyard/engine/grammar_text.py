"""Grammars as llguidance reads them: what a request asks for, checked and bounded; free of torch and of a vocabulary.

Used on both sides: the HTTP process refuses a bad grammar before it takes anything from a limit, the engine compiles.
"""

import contextlib
import functools
import json
import math
import re
import threading
from typing import TYPE_CHECKING, Any, Final

import llguidance

from trainyard.core import errors
from trainyard.engine import grammar_schema
from trainyard.engine.types import Grammar

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions  # named in its types only

MAX_TEXT_BYTES: Final = 64 * 1024
"""Longest schema, expression or grammar; the slowest of that length compile in 0.2 s (JSON) and 0.6 s (Lark)."""
LIMITS: Final = llguidance.LLParserLimits(
    initial_lexer_fuel=100_000,  # measured: up to 0.1 s
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
_STACK_BYTES: Final = 64 << 20
"""Of the thread that compiles: rules that name each other are followed by recursion, at about 3 KB for each of at most
8,400 rules; where a usual stack of 8 MB ends, after 2,700, the whole process does."""
_stacks = threading.Lock()
_COUNT: Final = re.compile(r'(?:"min(?:Length|Items|Properties)"\s*:\s*|[{~])([0-9]{1,9})')
_FEW_REPEATED: Final = 16
_BLOCK: Final = "%json "
_BLOCKS: Final = re.compile(r"%json\s*")
_read_block: Final = json.JSONDecoder().raw_decode
_IN_BLOCK: Final = "failed to compile JSON schema: "
_FIELDS: Final = {"json_schema": "json_schema", "json_object": "json_schema", "regex": "regex", "lark": "grammar"}


def validate_grammar(grammar: Grammar) -> None:
    """Refuse what no engine can follow.

    Raises:
        errors.InvalidRequest: Code `invalid_grammar`; the message gives the reason, `param` the field of the native
            routes.
    """
    try:
        _validated(grammar)
    except errors.InvalidRequest as error:
        raise errors.InvalidRequest(error.message, code=error.code, param=_FIELDS[grammar.kind]) from error


@functools.lru_cache(maxsize=256)
def _validated(grammar: Grammar) -> None:
    check_start(_matcher(source_of(grammar)))


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
            if (len(grammar.text) - len(grammar.text.rstrip("\\"))) % 2:
                raise invalid("a lone backslash ends it")  # which llguidance leaves out
            return llguidance.LLMatcher.grammar_from_regex(grammar.text)
        case "lark":
            return llguidance.LLMatcher.grammar_from_lark(_with_bounds(grammar.text))
        case "json_object":
            return _from_schema({"type": "object"})
        case "json_schema":
            return _from_schema(_read_schema(grammar.text))


def schema_block(schema: dict[str, Any]) -> str:
    """Write a schema so that it can stand behind `%json` in a Lark grammar, tightened, on one line.

    Raises:
        errors.InvalidRequest: Code `invalid_grammar`; the message gives the reason.
    """
    if (reason := grammar_schema.refusal(schema)) is not None:
        raise invalid(reason)
    return json.dumps({**grammar_schema.tightened(grammar_schema.bounded(schema)), "x-guidance": _JSON_OPTIONS})


def _with_bounds(text: str) -> str:
    """Treat the numbers in the JSON schemas of a Lark grammar as those of any schema."""
    out, at = [], 0
    for match in _BLOCKS.finditer(text):
        if match.start() < at:
            continue
        try:
            schema, end = _read_block(text, match.end())
        except (ValueError, RecursionError):
            continue  # no schema, as llguidance finds too where it looks for one
        if (reason := grammar_schema.number_fault(schema)) is not None:
            raise invalid(reason)
        kept = grammar_schema.bounded(schema)
        out += [text[at : match.end()], text[match.end() : end] if kept == schema else json.dumps(kept)]
        at = end
    return "".join([*out, text[at:]])


def _from_schema(schema: dict[str, Any]) -> str:
    """Translate the tightened schema, or the original where tightening went against something that it says."""
    original, tight = _translate(schema), _translate(grammar_schema.tightened(schema))
    try:
        check_start(_matcher(tight))
    except errors.InvalidRequest:
        return original
    return tight


def _matcher(source: str) -> llguidance.LLMatcher:
    return compiled(_bytes_vocabulary(), source)


def compiled(vocabulary: llguidance.LLTokenizer, source: str) -> llguidance.LLMatcher:
    """Have llguidance compile, on a stack that is deep enough for any text of `MAX_TEXT_BYTES`."""
    made: list[llguidance.LLMatcher] = []

    def make() -> None:
        made.append(llguidance.LLMatcher(vocabulary, source, log_level=0, limits=LIMITS))

    with _stacks:
        usual = threading.stack_size(_STACK_BYTES)
        try:
            thread = threading.Thread(target=make, name="grammar")
            thread.start()
        finally:
            threading.stack_size(usual)
    thread.join()
    return made[0]


def _translate(schema: dict[str, Any]) -> str:
    try:
        return llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_JSON_OPTIONS)
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
    if (reason := grammar_schema.refusal(schema)) is not None:
        raise invalid(reason)
    bounded: dict[str, Any] = grammar_schema.bounded(schema)
    return bounded


@functools.cache
def _bytes_vocabulary() -> llguidance.LLTokenizer:
    return llguidance.LLTokenizer("byte")


def invalid(reason: str) -> errors.InvalidRequest:
    """Make the error that refuses a grammar."""
    plain = reason.removesuffix("<non-verbose/>").strip()
    if "NoExtension" in reason:
        plain = "no text satisfies it"
    elif "oneOf constraints are not supported" in reason:
        plain = "branches of `oneOf` that may hold together cannot be kept; use `anyOf`, or a `const` in each"
    return errors.InvalidRequest(f"the grammar cannot be used: {plain}", code="invalid_grammar", param="grammar")


def reason_in_block(error: errors.InvalidRequest) -> str:
    """Give what is wrong with a schema inside a Lark grammar, without the grammar around it."""
    _, _, inner = error.message.partition(_IN_BLOCK)
    return inner.partition("\n")[0] or error.message


def longest_jump(grammar: Grammar) -> int:
    """Bound by how many tokens one token can lengthen the shortest way to the end of the text.

    What a text must hold is written out in its grammar letter by letter, but for counts: repetitions that multiply to
    more than a few leave no bound worth the name.
    """
    repeated = math.prod(int(number) for number in _COUNT.findall(grammar.text) if int(number) > 0)
    return len(grammar.text.encode()) * repeated + 16 if repeated <= _FEW_REPEATED else 1 << 30


def needed_names(grammar: Grammar) -> tuple[bytes, ...]:
    """List what stands under `required` anywhere in a schema, spelled as in JSON with the closing quote.

    Of a Lark grammar its blocks of `%json` count, where each stands on one line.
    """
    schemas = [grammar.text] if grammar.kind == "json_schema" else []
    if grammar.kind == "lark":
        schemas = [line.partition(_BLOCK)[2] for line in grammar.text.splitlines() if _BLOCK in line]
    names: set[str] = set()
    for schema in schemas:
        with contextlib.suppress(ValueError):  # over several lines: no names, then
            names.update(grammar_schema.required_names(json.loads(schema)))
    return tuple(json.dumps(name, ensure_ascii=False)[1:].encode() for name in sorted(names))


def has_json_inside(grammar: Grammar) -> bool:
    """Whether a Lark grammar has JSON in some places of its text."""
    return grammar.kind == "lark" and _BLOCK in grammar.text
