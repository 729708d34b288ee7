"""Head, tail and spool of one stream."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainyard.sandbox.inside.outputs import Output
from trainyard.sandbox.inside.spool import Spool, open_directory


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    descriptor = open_directory(str(tmp_path))
    yield Spool(descriptor)
    os.close(descriptor)


def _whole(output: Output) -> bytes:
    descriptor = output.open_whole()
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


@pytest.mark.parametrize("piece_bytes", [1, 3, 1000])
@pytest.mark.parametrize(
    ("total", "keep", "kept", "head_bytes"),
    [
        (0, 4, b"", 0),
        (4, 4, b"0123", 2),
        (5, 4, b"0134", 2),
        (10, 5, b"01789", 2),
        (10, 0, b"", 0),
    ],
)
def test_what_is_kept_does_not_depend_on_how_it_comes(
    spool: Spool, total: int, keep: int, kept: bytes, head_bytes: int, piece_bytes: int
) -> None:
    output, content = Output(spool, keep, 1000), b"0123456789"[:total]
    for at in range(0, total, piece_bytes):
        output.feed(content[at : at + piece_bytes])

    assert output.kept() == kept
    assert output.about() == {"kept_bytes": len(kept), "head_bytes": head_bytes, "total_bytes": total}
    assert _whole(output) == content
    assert _whole(output) == content
    output.close()


def test_more_than_the_log_is_over_and_the_log_is_full(spool: Spool) -> None:
    output = Output(spool, 2, 8)
    for _ in range(4):
        output.feed(b"abc")

    assert output.is_over
    assert _whole(output) == b"abcabcab"
    output.close()


def test_exactly_the_log_is_not_over(spool: Spool) -> None:
    output = Output(spool, 2, 6)
    output.feed(b"abc")
    output.feed(b"abc")

    assert not output.is_over
    assert _whole(output) == b"abcabc"
    output.close()


def test_the_tail_does_not_grow(spool: Spool) -> None:
    output = Output(spool, 1000, 1 << 30)
    for _ in range(1000):
        output.feed(b"x" * 10_000)

    assert output.total_bytes == 10_000_000
    assert len(output._tail) < 200_000
    output.close()


def test_no_file_of_the_spool_has_a_name(spool: Spool, tmp_path: Path) -> None:
    output = Output(spool, 1, 1000)
    output.feed(b"abc")
    held = spool.holding(b"input")

    assert os.read(held, 100) == b"input"
    assert list(tmp_path.iterdir()) == []
    os.close(held)
    output.close()
