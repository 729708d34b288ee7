import pytest
import torch

from trainyard.core import errors
from trainyard.engine import packing, types


def datum(weights: list[float], tokens: list[int] | None = None) -> types.Datum:
    ids = tokens if tokens is not None else list(range(len(weights)))
    return types.Datum(
        tokens=types.int32(ids), targets=types.int32([i + 1 for i in ids]), weights=types.float32(weights)
    )


def decoded(call: int, *lengths: int) -> list[packing.Example]:
    return packing.decode(call, [datum([1.0] * n) for n in lengths], 100, 50)


def test_what_follows_the_last_weight_is_cut_and_a_sequence_without_any_is_left_out() -> None:
    examples = packing.decode(0, [datum([0, 2, 0, 0]), datum([0, 0]), datum([0, 0, 1])], 100, 50)
    assert [(e.index, e.length) for e in examples] == [(0, 2), (2, 3)]


def test_a_packed_row_of_a_hand_case() -> None:
    first = packing.decode(0, [datum([0, 1.0]), datum([2.0])], 100, 50)
    second = packing.decode(1, [datum([0.5, 0, 3.0], [7, 8, 9])], 100, 50)
    (group,) = packing.cut(first + second, 100, mixed=True)
    chunk = packing.pack(group, torch.device("cpu"))
    assert chunk.tokens_N.tolist() == [0, 0, 1, 7, 8, 9]  # the shorter sequence of a call goes first
    assert chunk.positions_N.tolist() == [0, 0, 1, 0, 1, 2]
    assert chunk.keep_M.tolist() == [0, 2, 3, 5]
    assert chunk.targets_M.tolist() == [1, 2, 8, 10]
    assert chunk.weights_M.tolist() == [2.0, 1.0, 0.5, 3.0]
    assert [(s.call, s.start, s.stop, s.kept_start, s.kept_stop) for s in chunk.spans] == [
        (0, 0, 3, 0, 2),
        (1, 3, 6, 2, 4),
    ]
    assert chunk.lengths == ((1, 1), (1, 2), (1, 3))


@pytest.mark.parametrize(
    ("mixed", "limit", "expected"),
    [
        (True, 100, [[2, 3, 3, 4, 4]]),
        (False, 100, [[2, 3, 3], [4, 4]]),
        (True, 8, [[2, 3, 3], [4, 4]]),
        (True, 7, [[2, 3], [3, 4], [4]]),
        (True, 1, [[2], [3], [3], [4], [4]]),
    ],
)
def test_groups_hold_at_most_the_limit(mixed: bool, limit: int, expected: list[list[int]]) -> None:
    examples = decoded(0, 3, 2, 3) + decoded(1, 4, 4)
    assert [[e.length for e in group] for group in packing.cut(examples, limit, mixed=mixed)] == expected


def test_equally_long_neighbours_are_one_run() -> None:
    chunk = packing.pack(decoded(0, 3, 3) + decoded(1, 3, 5), torch.device("cpu"))
    assert chunk.lengths == ((3, 3), (1, 5))


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        (types.Datum(tokens=types.int32([1]), targets=b"", weights=types.float32([1])), "one length"),
        (types.Datum(tokens=b"", targets=b"", weights=b""), "at least 1"),
        (datum([1.0], [100]), r"tokens: ids must lie in 0\.\.99"),
        (datum([1.0], [99]), r"targets: ids must lie in 0\.\.99"),
        (datum([1.0], [-5]), r"0\.\.99"),
        (datum([-1.0]), "not negative"),
        (datum([float("nan")]), "finite"),
        (datum([1.0] * 51), "51 tokens; the context of the model holds 50"),
        (datum([0.0, 0.0]), "no position"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(bad: types.Datum, word: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=word):
        packing.decode(0, [bad], 100, 50)


def test_bytes_that_are_no_whole_numbers_are_refused() -> None:
    torn = types.Datum(tokens=b"123", targets=b"123", weights=b"123")
    with pytest.raises(errors.InvalidRequest, match=r"data\[1\]"):
        packing.decode(0, [datum([1.0]), torn], 100, 50)
