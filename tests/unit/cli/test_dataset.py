import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard.cli import dataset
from trainyard.core import errors

CHAT = '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}'


def lines_of(*texts: str) -> list[dataset.Line]:
    return dataset.parse([f'{{"text": "{text}"}}' for text in texts], "data")


def test_both_formats_are_read_and_empty_lines_skipped() -> None:
    lines = dataset.parse(['{"text": "a"}', "", "  ", CHAT], "data")
    assert [line.number for line in lines] == [1, 4]
    assert lines[0].example == {"text": "a"}


def test_the_digest_is_that_of_the_example_whatever_its_spelling() -> None:
    one, two = dataset.parse(['{"text":"a"}', '{ "text" : "\\u0061" }'], "data")
    assert one.digest == two.digest == hashlib.sha256(b'{"text":"a"}').digest()


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("{", "line 2: not JSON: Expecting property name enclosed in double quotes at column 2"),
        ('{"txt": "a"}', "line 2: Must provide one of: text, messages"),
        ('{"text": ""}', "line 2: text: String should have at least 1 character"),
        ('{"text": "a", "messages": []}', "line 2: Provide only ONE format"),
        ('{"messages": [{"role": "user", "content": "a"}]}', "line 2: messages has no assistant turn"),
        ('{"messages": [{"role": "robot", "content": "a"}]}', "line 2: messages.0.role"),
        ('["text"]', "line 2: an example is an object"),
    ],
)
def test_a_bad_line_is_named_with_its_number_and_reason(raw: str, reason: str) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        dataset.parse(['{"text": "a"}', raw], "file.jsonl")
    assert str(caught.value).startswith("file.jsonl has 1 unusable line: ")
    assert reason in str(caught.value)


def test_many_bad_lines_are_counted_after_the_first_ten() -> None:
    with pytest.raises(errors.InvalidRequest, match=r"has 13 unusable lines: line 1: .*line 10: .*; and 3 more$"):
        dataset.parse(["{"] * 13, "data")


def test_a_file_without_examples_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(errors.InvalidRequest, match="holds no examples"):
        dataset.read(tmp_path / "empty.jsonl")


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00text"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "data.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.InvalidRequest, match="cannot be read as UTF-8 text"):
        dataset.read(path)


def test_a_byte_order_mark_and_unicode_line_separators_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + '{"text": "a\u2028b"}\r\n{"text": "c"}\n'.encode())
    assert [line.example["text"] for line in dataset.read(path)] == ["a\u2028b", "c"]


@pytest.mark.parametrize(("share", "held"), [(0, 0), (0.1, 1), (0.25, 2), (0.5, 5), (1, 1), (3, 3), (9, 9), (0.001, 1)])
def test_as_many_are_held_out_as_asked(share: float, held: int) -> None:
    train, held_out = dataset.hold_out(lines_of(*"abcdefghij"), share)
    assert (len(train), len(held_out)) == (10 - held, held)


def test_those_with_the_smallest_digests_are_held_out() -> None:
    train, held_out = dataset.hold_out(lines_of(*"abcdefghij"), 4)
    assert max(line.digest for line in held_out) < min(line.digest for line in train)


def test_an_example_that_occurs_twice_is_on_one_side() -> None:
    for share in (1, 2, 3):
        train, held_out = dataset.hold_out(lines_of("a", "b", "a", "c", "b", "d"), share)
        assert not {line.digest for line in train} & {line.digest for line in held_out}


@pytest.mark.parametrize(("count", "share"), [(3, 3), (3, 7), (1, 0.1), (3, 0.99)])
def test_holding_out_everything_is_refused(count: int, share: float) -> None:
    with pytest.raises(errors.InvalidRequest, match="leaves none to train on"):
        dataset.hold_out(lines_of(*"abc"[:count]), share)


@given(count=st.integers(1, 30), size=st.integers(1, 12), seed=st.integers(0, 5))
def test_an_epoch_has_every_line_once(count: int, size: int, seed: int) -> None:
    batches = dataset.Batches(lines_of(*(f"t{i}" for i in range(count))), size, seed)
    assert batches.per_epoch == -(-count // size)
    for epoch in (0, 1):
        first = epoch * batches.per_epoch
        seen = [example["text"] for step in range(first, first + batches.per_epoch) for example in batches.at(step)]
        assert sorted(seen) == sorted(f"t{i}" for i in range(count))


def test_the_batch_of_a_step_depends_on_seed_and_step_alone() -> None:
    lines = lines_of(*"abcdefghij")
    forwards = dataset.Batches(lines, 3, seed=5)
    backwards = dataset.Batches(lines[::-1], 3, seed=5)
    assert [forwards.at(step) for step in range(8)] == [backwards.at(step) for step in reversed(range(8))][::-1]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    lines = lines_of(*"abcdefghij")
    whole = dataset.Batches(lines, 10, seed=1)
    assert whole.at(0) != whole.at(1)
    assert whole.at(0) != dataset.Batches(lines, 10, seed=2).at(0)
