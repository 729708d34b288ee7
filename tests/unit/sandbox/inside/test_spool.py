"""The runner's own files: one state at a time."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from trainyard.sandbox.inside.spool import STATE, Spool, open_directory


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(open_directory(str(tmp_path)))
    yield made
    os.close(made.directory)


def _write(spool: Spool, content: bytes, *, is_whole: bool) -> None:
    descriptor = spool.begin_state()
    os.write(descriptor, content)
    os.close(descriptor)
    spool.end_state(is_whole=is_whole)


def test_the_last_state_is_gone_before_the_next_is_written(spool: Spool, tmp_path: Path) -> None:
    _write(spool, b"first", is_whole=True)

    os.close(spool.begin_state())

    assert [(file.name, file.stat().st_size) for file in tmp_path.iterdir()] == [("state.new", 0)]


@pytest.mark.parametrize(("is_whole", "size_bytes"), [(True, 6), (False, 0)])
def test_a_state_is_there_when_it_is_whole(spool: Spool, is_whole: bool, size_bytes: int) -> None:
    _write(spool, b"first", is_whole=True)
    _write(spool, b"second", is_whole=is_whole)

    assert spool.state_bytes() == size_bytes


def test_a_state_may_be_deleted_between_two(spool: Spool, tmp_path: Path) -> None:
    _write(spool, b"first", is_whole=True)
    (tmp_path / STATE).unlink()

    assert spool.state_bytes() == 0
    _write(spool, b"second", is_whole=True)
    assert (tmp_path / STATE).read_bytes() == b"second"
