import asyncio
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from trainyard.core import lines
from trainyard.core.lines import Lines


class Pipe:
    """A pipe whose reader reads when it is told to."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.writer: IO[str] = os.fdopen(writer, "w")

    def fill(self) -> int:
        """Fill it up; returns how many bytes went in."""
        descriptor, size_bytes = self.writer.fileno(), 0
        os.set_blocking(descriptor, False)
        try:
            while True:
                size_bytes += os.write(descriptor, b"." * 4096)
        except BlockingIOError:
            os.set_blocking(descriptor, True)
            return size_bytes

    def read(self) -> bytes:
        read = b""
        try:
            while piece := os.read(self.reader, 1 << 20):
                read += piece
        except BlockingIOError:
            pass
        return read


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.writer.close()
    os.close(made.reader)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Any]:
    with (tmp_path / "log").open("w+") as opened:
        yield opened


def _text(file: Any) -> str:
    return Path(file.name).read_text()


def test_without_a_loop_a_line_is_written_at_once(file: Any) -> None:
    out = Lines(lambda: file)
    out.put(b"one")
    assert _text(file) == "one\n"


async def test_with_a_loop_lines_are_gathered_for_a_moment(file: Any) -> None:
    out = Lines(lambda: file)
    for number in range(3):
        out.put(b"%d" % number)
    assert _text(file) == ""
    await asyncio.sleep(lines.GATHER_S * 1.5)
    assert _text(file) == "0\n1\n2\n"
    out.put(b"again")
    await asyncio.sleep(lines.GATHER_S * 1.5)
    assert _text(file).endswith("again\n")


async def test_many_lines_do_not_wait(file: Any) -> None:
    out = Lines(lambda: file)
    for _ in range(lines.GATHER_LINES):
        out.put(b"x")
    assert len(_text(file)) == 2 * lines.GATHER_LINES


async def test_an_urgent_line_takes_those_before_it_along(file: Any) -> None:
    out = Lines(lambda: file)
    out.put(b"first")
    out.write(b"second")
    assert _text(file) == "first\nsecond\n"


async def test_what_others_wrote_to_the_stream_comes_first(file: Any) -> None:
    out = Lines(lambda: file)
    file.write("printed\n")
    out.write(b"line")
    assert _text(file) == "printed\nline\n"


async def test_a_reader_that_does_not_read_blocks_nobody_and_gets_all_later(pipe: Pipe) -> None:
    out = Lines(lambda: pipe.writer)
    filled = pipe.fill()
    for number in range(1000):
        out.write(b"%d" % number)
    assert not out.flush()
    read = pipe.read()
    assert len(read) == filled
    await asyncio.sleep(lines.GATHER_S * 1.5)
    assert pipe.read() == b"".join(b"%d\n" % number for number in range(1000))
    assert out.dropped == 0


async def test_lines_beyond_the_bound_are_dropped_and_counted(pipe: Pipe) -> None:
    told: list[int] = []
    out = Lines(lambda: pipe.writer, max_pending=10)
    out.on_drop = told.append
    pipe.fill()
    for number in range(15):
        out.put(b"%d" % number)
    assert (out.dropped, sum(told)) == (5, 5)
    pipe.read()
    assert out.flush()
    assert pipe.read() == b"".join(b"%d\n" % number for number in range(10))


def test_without_a_loop_a_slow_reader_is_waited_for(pipe: Pipe) -> None:
    out = Lines(lambda: pipe.writer)
    pipe.fill()
    writing = threading.Thread(target=out.put, args=(b"waited",))
    writing.start()
    read = b""
    while not read.endswith(b"waited\n"):
        read += pipe.read()
    writing.join(5)
    assert not writing.is_alive()


def test_a_flush_waits_as_long_as_it_is_told_to(pipe: Pipe) -> None:
    out = Lines(lambda: pipe.writer, max_pending=1)
    pipe.fill()
    out._pending.append(b"x")
    assert not out.flush(0.01)


async def test_a_flush_while_another_thread_writes_leaves_it_to_that_one(file: Any) -> None:
    out = Lines(lambda: file)
    out.put(b"x")
    with out._writing:
        assert not out.flush()
    assert out.flush()


async def test_a_reader_that_is_gone_costs_lines_but_no_exception(pipe: Pipe) -> None:
    out = Lines(lambda: pipe.writer)
    reader, pipe.reader = pipe.reader, os.open(os.devnull, os.O_RDONLY)
    os.close(reader)
    out.put(b"one")
    out.write(b"two")
    assert out.dropped == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_costs_lines_but_no_exception() -> None:
    with Path("/dev/full").open("w") as full:
        out = Lines(lambda: full)
        out.put(b"one")
        assert out.dropped == 1


def test_a_stream_in_memory_is_written_to_as_text() -> None:
    stream = io.StringIO()
    Lines(lambda: stream).put("Grüße".encode())
    assert stream.getvalue() == "Grüße\n"


def test_lines_of_a_loop_that_ended_are_not_forgotten(file: Any) -> None:
    out = Lines(lambda: file)

    async def speak() -> None:
        out.put(b"in a loop")

    asyncio.run(speak())
    assert _text(file) == ""
    asyncio.run(speak())
    out.put(b"without")
    assert _text(file) == "in a loop\nin a loop\nwithout\n"


async def test_threads_and_the_loop_lose_nothing(file: Any) -> None:
    out = Lines(lambda: file)

    def shout(name: str) -> None:
        for number in range(500):
            out.put(f"{name} {number}".encode())

    await asyncio.gather(*(asyncio.to_thread(shout, name) for name in "abcd"), asyncio.sleep(0))
    shout("e")
    out.flush(1.0)
    written = _text(file).splitlines()
    for name in "abcde":
        assert [line for line in written if line.startswith(name)] == [f"{name} {number}" for number in range(500)]
