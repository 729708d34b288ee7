"""Lines are cut when their time is over, and only then."""

import select
import socket
import time
from collections.abc import Iterator

import pytest

from trainyard.core.db.patience import Patience


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def patience() -> Iterator[Patience]:
    made = Patience()
    yield made
    made.close()


def is_cut(line: tuple[socket.socket, socket.socket], timeout_s: float) -> bool:
    return bool(select.select([line[1]], [], [], timeout_s)[0]) and line[1].recv(1) == b""


def test_a_wait_that_is_too_long_ends_by_a_cut_line(
    line: tuple[socket.socket, socket.socket], patience: Patience
) -> None:
    began_s = time.monotonic()
    with patience.during(line[0], 0.05):
        assert line[0].recv(1) == b""  # without the cut this would wait for ever
    assert time.monotonic() - began_s < 2
    assert is_cut(line, 1)


def test_a_wait_that_is_over_in_time_keeps_its_line(
    line: tuple[socket.socket, socket.socket], patience: Patience
) -> None:
    with patience.during(line[0], 0.05):
        pass
    assert not is_cut(line, 0.6)


def test_a_line_that_is_closed_already_is_left_alone(
    line: tuple[socket.socket, socket.socket], patience: Patience
) -> None:
    other = socket.socketpair()
    with patience.during(line[0], 0.0), patience.during(other[0], 0.0):
        line[0].close()
        assert is_cut(other, 2)
        time.sleep(0.3)
    with patience.during(other[0], 60):  # its thread lives
        pass
    for end in other:
        end.close()
