"""Rendering and its marks."""

import re

import pytest

from trainyard.core import errors
from trainyard.engine import chat_template
from trainyard.engine.chat_template import ChatTemplate, Marks

HELLO = [{"role": "user", "content": "hi"}]
MARKS = Marks("\ufdd0", "\ufdd1", "\ufdd2")


def render(source: str, **message: object) -> str:
    turns = [{"role": "user", "content": "hi", **message}]
    return ChatTemplate(source, {"bos_token": "<s>"}).render(turns, add_generation_prompt=True)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ bos_token }}{{ messages[0].content }}", "<s>hi"),
        ("{% if add_generation_prompt %}yes{% endif %}", "yes"),
        ("{% for m in messages %}\n  {{ m.role }}\n{% endfor %}\n", "  user\n"),
        ("{% for m in messages %}{% break %}{% endfor %}x", "x"),
        ("{{ {'a': '<é>'} | tojson }}", '{"a": "<é>"}'),
        ("{{ [1] | tojson(indent=1) }}", "[\n 1\n]"),
        ("{% generation %}said{% endgeneration %}", "said"),
        ("{{ tools is none }}{{ eos_token }}", "True"),
        ("{{ messages[0].name is defined }}", "False"),
    ],
)
def test_templates_see_what_they_see_in_transformers(source: str, text: str) -> None:
    assert render(source, name=None) == text


def test_the_date_of_today_can_be_shown() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", render("{{ strftime_now('%Y-%m-%d') }}"))


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('no') }}",
        "{{ messages[0].content + 1 }}",
        "{{ messages[7].content.x }}",
        "{{ 1 / 0 }}",
        "{{ ''.__class__.__mro__ }}{{ messages.append(1) }}",
    ],
)
def test_whatever_a_template_trips_over_is_the_callers_to_read(source: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        render(source)
    assert caught.value.code == "chat_template_error"


def test_marks_are_characters_that_no_message_has() -> None:
    used = [{"role": "user", "content": [{"type": "text", "text": "\ufdd0 and \ufdd2"}], "n": 1}]
    marks = chat_template.choose_marks(used)
    assert not set(marks) & {"\ufdd0", "\ufdd2"}
    assert len(set(marks)) == 3


def test_a_message_of_all_noncharacters_is_refused() -> None:
    every = "".join(map(chr, range(0xFDD0, 0xFDF0)))
    with pytest.raises(errors.InvalidRequest, match="noncharacters"):
        chat_template.choose_marks([{"role": "user", "content": every}])


def test_control_tokens_are_broken_wherever_they_stand_even_overlapping() -> None:
    tokens = re.compile("(?=<a>|><)(?s:.)")
    value = {"role": "user", "parts": [{"text": "x<a><a>"}], "n": 3}
    assert chat_template.break_tokens(value, tokens, "|") == {
        "role": "user",
        "parts": [{"text": "x<|a>|<|a>"}],
        "n": 3,
    }


def test_marks_are_read_back_as_pieces_and_spans() -> None:
    marked = "ab\ufdd1cd\ufdd0ef\ufdd2g\ufdd1\ufdd2"
    assert chat_template.read_marks(marked, MARKS) == (["abcd", "efg"], [(2, 6), (7, 7)])


def test_generation_blocks_carry_marks_when_asked() -> None:
    template = ChatTemplate("a{% generation %}{{ messages[0].content }}{% endgeneration %}", {})
    assert template.has_generation_blocks
    assert template.render(HELLO, add_generation_prompt=False, marks=MARKS) == "a\ufdd1hi\ufdd2"
