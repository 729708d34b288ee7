"""Framings of answers, from one read or many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard.core import wire
from trainyard.core.wire.answer import MAX_HEAD_BYTES, Answer

NEXT = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnext"
CASES = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", True, True),
    "empty": (b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", 200, b"", True, True),
    "no-reason": (b"HTTP/1.1 200\r\ncontent-length: 5\r\n\r\nhello", 200, b"hello", True, True),
    "line-feeds": (b"HTTP/1.1 200 OK\ncontent-length: 5\n\nhello", 200, b"hello", True, True),
    "length-close": (
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello",
        200,
        b"hello",
        True,
        False,
    ),
    "chunked": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        200,
        b"hello",
        True,
        True,
    ),
    "extensions-trailers": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
        b'5;a=1;b="c"\r\nhello\r\n0;last\r\nX-Sum: 1\r\nServer: x\r\n\r\n',
        200,
        b"hello",
        True,
        True,
    ),
    "gzip-chunked": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
        200,
        b"hello",
        True,
        True,
    ),
    "until-close": (b"HTTP/1.1 200 OK\r\n\r\nhello", 200, b"hello", False, False),
    "until-close-gzip": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nhello", 200, b"hello", False, False),
    "1.0": (b"HTTP/1.0 200 OK\r\n\r\nhello", 200, b"hello", False, False),
    "1.0-length": (b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello", 200, b"hello", True, False),
    "1.0-keep": (
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello",
        200,
        b"hello",
        True,
        True,
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True, True),
    "304": (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", 304, b"", True, True),
    "interim": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        200,
        b"hello",
        True,
        True,
    ),
    "error": (b"HTTP/1.1 503 Busy\r\nretry-after: 1\r\ncontent-length: 4\r\n\r\nbusy", 503, b"busy", True, True),
    "upgrade-offered": (
        b"HTTP/1.1 200 OK\r\nupgrade: h2c\r\nconnection: upgrade\r\ncontent-length: 5\r\n\r\nhello",
        200,
        b"hello",
        True,
        True,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_an_answer_is_the_same_wherever_its_bytes_are_split(name: str) -> None:
    raw, status, body, is_complete, may_follow = CASES[name]
    for at in range(len(raw) + 1):
        answer = Answer()
        for part in filter(None, (raw[:at], raw[at:])):
            answer.feed(part)
        assert (answer.status, answer.take(), answer.is_complete, answer.may_follow) == (
            status,
            body,
            is_complete,
            may_follow,
        ), at
        assert answer.ends_with_connection or is_complete


@pytest.mark.parametrize("name", CASES)
def test_an_answer_may_come_byte_by_byte_and_another_after_it(name: str) -> None:
    raw, status, body, _, may_follow = CASES[name]
    answer = Answer()
    for at in range(len(raw)):
        answer.feed(raw[at : at + 1])
    assert (answer.status, answer.take()) == (status, body)
    if may_follow:
        answer.begin()
        assert (answer.status, answer.has_begun, answer.headers) == (0, False, {})
        answer.feed(NEXT)
        assert (answer.take(), answer.is_complete, answer.headers) == (b"next", True, {b"content-length": b"4"})


def test_names_are_in_lower_case_and_values_of_one_name_are_joined() -> None:
    answer = Answer()
    answer.feed(b"HTTP/1.1 200 OK\r\nX-A: 1\r\nX-Empty:\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n")
    assert answer.headers == {b"x-a": b"1, 2", b"x-empty": b"", b"content-length": b"0"}


def test_trailers_and_interim_heads_are_no_headers() -> None:
    answer = Answer()
    answer.feed(CASES["interim"][0])
    assert answer.headers == {b"content-length": b"5"}
    answer.begin()
    answer.feed(CASES["extensions-trailers"][0])
    assert answer.headers == {b"transfer-encoding": b"Chunked"}


@pytest.mark.parametrize("surplus", [b"x", NEXT, b"HTTP/1.1 200 OK\r\n"])
@pytest.mark.parametrize("is_later", [False, True])
@pytest.mark.parametrize("name", ["length", "length-close", "chunked", "204"])
def test_bytes_after_the_end_leave_the_answer_and_end_the_connection(name: str, surplus: bytes, is_later: bool) -> None:
    raw, status, body, _, _ = CASES[name]
    answer = Answer()
    for part in (raw, surplus) if is_later else (raw + surplus,):
        answer.feed(part)
    answer.feed(b"and so on")
    assert (answer.status, answer.take(), answer.is_complete, answer.may_follow) == (status, body, True, False)


@pytest.mark.parametrize(
    "raw",
    [
        b"this is no HTTP at all\r\n\r\n",
        b"HTTP/1.1 xyz OK\r\n\r\n",
        b"HTTP/1.1 099 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: five\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhello\r\n",
        b"\x16\x03\x01\x00\xa5\x01\x00",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_answer_is_refused(raw: bytes) -> None:
    for parts in ([raw], [raw[at : at + 1] for at in range(len(raw))]):
        answer = Answer()

        def feed(answer: Answer = answer, parts: list[bytes] = parts) -> None:
            for part in parts:
                answer.feed(part)

        with pytest.raises(wire.NotHttp):
            feed()


def test_blocks_before_a_fault_are_there() -> None:
    answer = Answer()
    with pytest.raises(wire.NotHttp):
        answer.feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\nxyz\r\n")
    assert (answer.take(), answer.is_complete) == (b"he", False)


def test_another_protocol_is_the_status_101_and_nothing_more() -> None:
    answer = Answer()
    answer.feed(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nabc")
    assert (answer.status, answer.is_complete, answer.may_follow, answer.take()) == (101, True, False, b"")


@pytest.mark.parametrize("is_split", [False, True])
@pytest.mark.parametrize("over", [0, 1])
def test_a_head_has_its_bound_and_the_body_in_the_same_read_has_not(over: int, is_split: bool) -> None:
    start, end = b"HTTP/1.1 200 OK\r\ncontent-length: 200000\r\nx: ", b"\r\n\r\n"
    head = start + b"x" * (MAX_HEAD_BYTES - len(start) - len(end) + over) + end
    answer = Answer()
    raw = head + b"y" * 200_000
    parts = [raw[:50_000], raw[50_000:]] if is_split else [raw]

    def feed() -> None:
        for part in parts:
            answer.feed(part)

    if over:
        with pytest.raises(wire.NotHttp, match="longer than 64 KB"):
            feed()
    else:
        feed()
        assert (len(answer.take()), answer.is_complete) == (200_000, True)


def test_interim_heads_count_into_the_bound() -> None:
    answer = Answer()
    interim = b"HTTP/1.1 102 Processing\r\n\r\n"

    def feed() -> None:
        for _ in range(MAX_HEAD_BYTES // len(interim) + 1):
            answer.feed(interim)

    with pytest.raises(wire.NotHttp):
        feed()


def test_many_small_chunks_take_little_more_than_their_bytes() -> None:
    answer = Answer()
    answer.feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(200):
        answer.feed(b"2\r\nab\r\n" * 1000)
        assert len(answer.blocks) < 2200  # 1024, what one read brings, and what was joined
    answer.feed(b"0\r\n\r\n")
    assert answer.take() == b"ab" * 200_000
    assert (answer.is_complete, answer.may_follow) == (True, True)


def test_blocks_that_are_taken_between_are_joined_too() -> None:
    answer = Answer()
    answer.feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    taken = b""
    for number in range(40):
        answer.feed(b"2\r\n%02d\r\n" % number * 1500)
        if number % 3 == 2:
            taken += answer.take()
    assert taken + answer.take() == b"".join(b"%02d" % number * 1500 for number in range(40))


@pytest.mark.parametrize("bare", [b"0\r\nX: ", b"0\r\n", b"5;x="], ids=["trailer", "trailers", "extension"])
def test_what_is_no_body_has_a_bound_too(bare: bytes) -> None:
    answer = Answer()
    answer.feed(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n" + bare)
    line = b"X: 1\r\n" if bare == b"0\r\n" else b"xxxxxx"

    def feed() -> None:
        for _ in range(12):
            answer.feed(line * 1000)

    with pytest.raises(wire.NotHttp, match="64 KB without a byte of the body"):
        feed()
    assert (answer.take(), answer.is_complete) == (b"he", False)


@given(st.data())
def test_damaged_answers_are_read_or_refused_and_nothing_else(data: st.DataObject) -> None:
    """Bytes of real answers, some of them changed, cut anywhere into reads."""
    raw = bytearray(
        b"".join(CASES[name][0] for name in data.draw(st.lists(st.sampled_from(sorted(CASES)), max_size=3)))
    )
    for at in data.draw(st.lists(st.integers(0, max(0, len(raw) - 1)), max_size=4)):
        raw[at : at + 1] = data.draw(st.binary(max_size=3))
    answer = Answer()
    try:
        for at in range(0, len(raw), step := data.draw(st.integers(1, 50))):
            answer.feed(bytes(raw[at : at + step]))
    except wire.NotHttp:
        assert not answer.is_complete
    assert answer.unread_bytes == len(answer.take())
    assert answer.headers.keys() == {name.lower() for name in answer.headers}
