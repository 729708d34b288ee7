import json
from typing import Any

import pytest

from tests.unit.cli.training_yard import TrainingYard
from trainyard.cli import dataset, lengths
from trainyard.core import errors


def text(length: int) -> dict[str, Any]:
    return {"text": "x" * length}


def chat(*turns: int) -> dict[str, Any]:
    return {"messages": [{"role": "assistant", "content": "x" * length} for length in turns]}


def lines_of(*examples: dict[str, Any]) -> list[dataset.Line]:
    return dataset.parse([json.dumps(example) for example in examples], "data")


@pytest.mark.parametrize(
    ("examples", "faults"),
    [
        ([text(100)], None),  # a text may fill the sequence
        ([text(101)], "1 longer line: line 1: 101 tokens"),
        ([chat(40, 40)], None),  # 40 + 10 for each turn
        ([text(1), chat(40, 41)], "1 longer line: line 2: 101 tokens"),
        ([text(300), text(5), chat(300)], "2 longer lines: line 1: 300 tokens; line 3: 310 tokens"),
        ([text(200 + i) for i in range(12)], "12 longer lines: line 1: 200 tokens; "),
        ([text(200 + i) for i in range(12)], "line 10: 209 tokens; and 2 more; shorten"),
    ],
)
def test_lines_longer_than_a_sequence_are_named_with_number_and_length(
    examples: list[dict[str, Any]], faults: str | None
) -> None:
    run = TrainingYard().run(max_seq_length=100)
    if faults is None:
        lengths.check(run, lines_of(*examples), "some.jsonl")
        return
    with pytest.raises(errors.InvalidRequest, match="may have 100 tokens") as caught:
        lengths.check(run, lines_of(*examples), "some.jsonl")
    assert faults in caught.value.message
    assert caught.value.code == "example_too_long"


def test_only_lines_that_could_be_too_long_are_measured() -> None:
    yard = TrainingYard()
    lengths.check(yard.run(max_seq_length=100), lines_of(text(20), chat(2, 2), text(21), chat(5)), "data")
    assert yard.asked == ["tokenize"]  # of 21 characters: 21 bytes + 16 + 64 = 101


@pytest.mark.parametrize(
    ("example", "most"), [(text(10), 90), ({"text": "Grüße"}, 87), (chat(3), 83), (chat(3, 4, 5), 124)]
)
def test_the_bound_counts_bytes_turns_and_the_chat(example: dict[str, Any], most: int) -> None:
    assert lengths.most_tokens(lines_of(example)[0]) == most
