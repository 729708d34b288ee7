"""The runner's end of the stream, against a peer that reads late."""

import contextlib
import os
import socket
import time
from collections.abc import Iterator

import pytest

from trainyard.sandbox.inside import frames, runner_wire
from trainyard.sandbox.inside.runner_loop import Loop
from trainyard.sandbox.inside.runner_wire import Wire


class _Ends:
    """A wire over a socket, and what came over it."""

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.loop = Loop()
        self.came: list[tuple[frames.Header, bytes]] = []
        self.wire = Wire(self.loop, self.theirs.fileno(), self.theirs.fileno(), self._take, self.loop.stop)

    def _take(self, header: frames.Header, payload: bytes) -> None:
        self.came.append((header, payload))


@pytest.fixture
def ends() -> Iterator[_Ends]:
    made = _Ends()
    yield made
    made.ours.close()
    made.theirs.close()
    made.loop.close()


def test_frames_come_however_they_are_cut(ends: _Ends) -> None:
    sent = frames.encode({"id": 1, "op": "a"}, b"payload") + frames.encode({"id": 2})
    for at in range(len(sent)):
        ends.ours.send(sent[at : at + 1])
    ends.ours.shutdown(socket.SHUT_WR)

    ends.loop.run()

    assert ends.came == [({"id": 1, "op": "a"}, b"payload"), ({"id": 2}, b"")]


def test_a_peer_that_does_not_read_fills_the_wire_and_is_told_of_room(ends: _Ends) -> None:
    piece = os.urandom(256 << 10)
    count = 0
    while not ends.wire.is_full:
        ends.wire.send({"n": count}, piece)
        count += 1
    received = list[tuple[frames.Header, bytes]]()
    reader = frames.Reader()
    ends.ours.setblocking(False)
    rooms: list[int] = []
    ends.wire.on_room = lambda: rooms.append(len(received))

    def drain() -> None:
        with contextlib.suppress(BlockingIOError):
            received.extend(reader.feed(ends.ours.recv(1 << 20)))
        if len(received) == count:
            ends.loop.stop()
        else:
            ends.loop.alarm(time.monotonic(), drain)

    ends.loop.alarm(time.monotonic(), drain)
    ends.loop.run()

    assert count * len(piece) > runner_wire.FULL_BYTES
    assert [(header["n"], payload == piece) for header, payload in received] == [(n, True) for n in range(count)]
    assert len(rooms) == 1


@pytest.mark.parametrize("garbage", [b"\xff" * 16, frames.LENGTHS.pack(4, 0) + b"nope"])
def test_a_peer_that_breaks_the_protocol_is_gone(ends: _Ends, garbage: bytes) -> None:
    ends.ours.send(garbage)

    ends.loop.run()

    assert ends.came == []


def test_what_is_sent_to_a_peer_that_is_gone_is_dropped(ends: _Ends) -> None:
    ends.ours.close()

    ends.wire.send({"id": 1})
    ends.wire.send({"id": 2})

    ends.loop.run()


def test_reading_and_writing_may_be_two_pipes() -> None:
    (orders, to_box), (from_box, answers) = os.pipe(), os.pipe()
    loop = Loop()
    wire = Wire(loop, orders, answers, lambda header, payload: wire.send({"heard": header}, payload * 2), loop.stop)
    os.write(to_box, frames.encode({"id": 1}, b"x"))
    os.close(to_box)

    loop.run()

    assert list(frames.Reader().feed(os.read(from_box, 1000))) == [({"heard": {"id": 1}}, b"xx")]
    for descriptor in (orders, from_box, answers):
        os.close(descriptor)
    loop.close()
