"""Chat templates: Jinja rendering as transformers does it, with marks that keep message content from forging turns.

A mark is a Unicode noncharacter that occurs in none of the messages. `broken` is put inside every control token that a
message spells out, `start` and `end` surround what the template says the assistant generated. No mark reaches a model.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
import jinja2.sandbox

from trainyard.core import errors

Messages = Sequence[Mapping[str, Any]]
"""Chat turns: mappings with `role` and `content`, and whatever else the template reads."""

_NONCHARACTERS = [chr(code) for code in range(0xFDD0, 0xFDF0)]
_MARKS_NAME = "trainyard_marks"
_ROLE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}")
_TOOLS = re.compile(r"\{[{%][^}]*\btools\b")
_GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")
_RENDER_ERRORS = (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError)


class Marks(NamedTuple):
    """Three characters that no message contains."""

    broken: str
    start: str
    end: str


class _GenerationBlocks(jinja2.ext.Extension):
    """Understands `{% generation %}…{% endgeneration %}` and surrounds its output with marks when some are given."""

    tags = {"generation"}  # noqa: RUF012  jinja's own declaration is an instance attribute

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        """Turn the block into a call of `_surround` with the block as its body."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_surround", [jinja2.nodes.ContextReference()])
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _surround(self, context: jinja2.runtime.Context, caller: Callable[[], str]) -> str:
        marks = context.get(_MARKS_NAME)
        return f"{marks.start}{caller()}{marks.end}" if marks else caller()


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().astimezone().strftime(pattern)


def _tojson(value: object, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _environment() -> jinja2.sandbox.ImmutableSandboxedEnvironment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationBlocks, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


class ChatTemplate:
    """A compiled chat template.

    Args:
        source: Jinja source, as `tokenizer_config.json` holds it.
        variables: What the template can read beside the messages (`bos_token`, …).

    Raises:
        errors.ConfigError: The source is not a valid template.
    """

    def __init__(self, source: str, variables: Mapping[str, str]) -> None:
        self.source = source
        self.has_generation_blocks = bool(_GENERATION_TAG.search(source))
        self._variables = dict(variables)
        try:
            self._template = _environment().from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise errors.ConfigError(f"The chat template does not compile: {error}") from error

    @property
    def knows_tools(self) -> bool:
        """Whether the template shows the model which functions there are."""
        return _TOOLS.search(self.source) is not None

    def render(
        self,
        messages: Messages,
        *,
        add_generation_prompt: bool,
        marks: Marks | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """Render turns to text, with tools in OpenAI's shape for a template that knows them.

        Raises:
            errors.InvalidRequest: No messages, a role that is not a plain word, or the template refuses them.
        """
        _check(messages)
        turns = [{key: value for key, value in message.items() if value is not None} for message in messages]
        values = {**self._variables, _MARKS_NAME: marks} if marks else self._variables
        try:
            return self._template.render(
                messages=turns,
                tools=list(tools) or None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **values,
            )
        except _RENDER_ERRORS as error:
            raise errors.InvalidRequest(
                f"The chat template of this model refuses these messages: {error}",
                code="chat_template_error",
                param="messages",
            ) from error


def _check(messages: Messages) -> None:
    if not messages:
        raise errors.InvalidRequest("messages is empty; give at least one message", param="messages")
    for index, message in enumerate(messages):
        role = message.get("role")
        if not isinstance(role, str) or not _ROLE.fullmatch(role):
            raise errors.InvalidRequest(
                f"messages[{index}].role must be a word such as system, user or assistant, not {role!r}",
                param=f"messages[{index}].role",
            )


def choose_marks(messages: Messages) -> Marks:
    """Pick three noncharacters that occur in no string of the messages.

    Raises:
        errors.InvalidRequest: The messages contain nearly all 32 of them, which no text does.
    """
    used = {character for text in _strings(list(messages)) for character in text if "\ufdd0" <= character <= "\ufdef"}
    free = [character for character in _NONCHARACTERS if character not in used]
    if len(free) < len(Marks._fields):
        raise errors.InvalidRequest("The messages contain too many Unicode noncharacters", param="messages")
    return Marks(*free[: len(Marks._fields)])


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)


def break_tokens(value: Any, tokens: re.Pattern[str], mark: str) -> Any:
    """Put a mark after the first character of everything in the value that spells a control token.

    Args:
        value: A string, or mappings and lists of them; keys are left alone.
        tokens: Matches with a lookahead, so that overlapping spellings are all broken.
        mark: The character to insert.
    """
    if isinstance(value, str):
        return tokens.sub(lambda match: match.group(0) + mark, value)
    if isinstance(value, Mapping):
        return {key: break_tokens(item, tokens, mark) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [break_tokens(item, tokens, mark) for item in value]
    return value


def read_marks(marked: str, marks: Marks) -> tuple[list[str], list[tuple[int, int]]]:
    """Take the marks out of rendered text.

    Returns:
        The pieces between `broken` marks, to be encoded one by one, and the (start, end) character spans between
        `start` and `end` marks, counted in the joined pieces.
    """
    pieces, spans = [""], []
    length = begin = 0
    for part in re.split(f"([{''.join(marks)}])", marked):
        if part == marks.broken:
            pieces.append("")
        elif part == marks.start:
            begin = length
        elif part == marks.end:
            spans.append((begin, length))
        else:
            pieces[-1] += part
            length += len(part)
    return pieces, spans
