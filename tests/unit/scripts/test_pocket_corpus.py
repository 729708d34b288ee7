from collections.abc import Iterable
from itertools import islice
from random import Random

import pytest

from scripts.pocket_model import corpus, dialogues, exchange, expand, sums, words
from scripts.pocket_model.__main__ import count
from scripts.pocket_model.exchange import Document, Exchange

pytestmark = pytest.mark.unit


def test_the_corpus_has_1500_words_and_several_hundred_forms() -> None:
    found_words, forms = count(islice(corpus.documents(7), 10_000))
    assert len(found_words) >= 1_500
    assert len(forms) >= 800


def test_equal_seeds_give_equal_documents_and_other_seeds_others() -> None:
    assert corpus.digest(3, 300) == corpus.digest(3, 300)
    assert corpus.digest(3, 300) != corpus.digest(4, 300)


def test_no_line_of_the_demo_occurs_in_the_corpus() -> None:
    told = {exchange.normal(text) for text in _contents(islice(corpus.documents(7, long_share=0.1), 10_000))}
    assert len(corpus.demo_lines()) > 200
    assert not told & corpus.demo_lines()


def test_a_document_with_a_line_of_the_demo_is_recognised() -> None:
    line = "At which pier is the Silver Swan"
    assert corpus.is_demo(Document(("x",), (("user", line.upper() + " ?"), ("assistant", "Pier one."))))
    assert not corpus.is_demo(Document(("x",), (("user", "At which pier is it?"), ("assistant", "Pier one."))))


def test_no_held_out_request_is_trained_on() -> None:
    held = {exchange.normal(f"{made.system} {made.user}") for made in corpus.held_out(5, 300)}
    trained = set()
    for document in islice(corpus.documents(7), 10_000):
        roles = [role for role, _ in document.turns]
        if roles in (["user", "assistant"], ["system", "user", "assistant"]):
            trained.add(exchange.normal(" ".join(text for role, text in document.turns if role != "assistant")))
    assert len(trained) > 4_000
    assert not held & trained


def test_a_held_out_sum_is_held_out_under_every_wording() -> None:
    task = sums.BY_NAME["sums/plus_20"]
    verdicts: dict[str, set[bool]] = {}
    rng = Random(1)
    for _ in range(3_000):
        made = task.make(rng)
        verdicts.setdefault(made.key, set()).add(made.is_held_out)
    assert all(len(verdict) == 1 for verdict in verdicts.values())
    assert {True} in verdicts.values()


def test_every_sum_and_difference_that_is_taught_is_right() -> None:
    rng = Random(2)
    for name in ("plus_20", "plus_100", "minus_20", "minus_100"):
        for _ in range(200):
            left, sign, right, _, result = sums.BY_NAME[f"sums/{name}"].make(rng).answer.split()
            assert int(result) == int(left) + int(right) * (1 if sign == "+" else -1)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("a [x] in [y]", "an owl in Rome"),
        ("{[x]} {sees|sees} a {umbrella|umbrella}", "owl sees an umbrella"),
        ("a useful one, a one-way road", "a useful one, a one-way road"),
    ],
)
def test_templates_are_filled_in_with_the_right_article(template: str, expected: str) -> None:
    assert expand.expand(template, {"x": "owl", "y": "Rome"}, Random(0)) == expected


def test_a_template_with_an_unknown_slot_is_an_error() -> None:
    with pytest.raises(KeyError):
        expand.expand("the [moon]", {}, Random(0))


@pytest.mark.parametrize(
    ("value", "text"), [(0, "zero"), (13, "thirteen"), (20, "twenty"), (47, "forty-seven"), (90, "ninety")]
)
def test_numbers_are_written_in_words(value: int, text: str) -> None:
    assert words.number(value) == text


def test_no_template_mark_is_left_in_a_document() -> None:
    for text in _contents(islice(corpus.documents(11), 5_000)):
        assert not set("[]{}|") & set(text), text


def test_long_documents_come_only_when_asked_for() -> None:
    lengths = [sum(map(len, _contents([document]))) for document in islice(corpus.documents(7, long_share=1.0), 50)]
    assert max(lengths) > 2_500
    assert max(sum(map(len, _contents([document]))) for document in islice(corpus.documents(7), 500)) < 1_500


def test_single_exchanges_come_from_every_family() -> None:
    rng = Random(3)
    families = {dialogues.single(rng).family for _ in range(500)}
    assert families == {"facts", "lists", "sums", "talk", "writing", "reading", "system", "stories", "unknown"}


def test_the_key_decides_what_is_held_out_whatever_the_wording() -> None:
    one, two = (Exchange("sums/plus_20/0", ask, "1 + 2 = 3", key="1+2") for ask in ("What is 1 + 2?", "Add 1 and 2."))
    assert one.is_held_out == two.is_held_out


def _contents(documents: Iterable[Document]) -> list[str]:
    return [text for document in documents for text in ([content for _, content in document.turns] or [document.text])]
