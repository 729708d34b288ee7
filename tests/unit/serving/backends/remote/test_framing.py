"""Events come out the same wherever the blocks of a stream are cut."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard.serving.backends.remote.framing import MAX_EVENT_BYTES, Framing, JsonLines, ServerSentEvents, TooLong

STREAMS: list[tuple[bytes, list[bytes]]] = [
    (b"data: a\n\ndata: b\n\n", [b"a", b"b"]),
    (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    (b"data: a\r\rdata: b\r\r", [b"a", b"b"]),
    (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    (b": a comment\n\n: another\ndata: a\n\n", [b"a"]),
    (b"event: x\nid: 7\nretry: 3\ndata: a\n\n", [b"a"]),
    (b"data: a\ndata: b\n\n", [b"a\nb"]),
    (b"data:a\ndata:  b\n\n", [b"a\n b"]),
    (b"data\n\n", [b""]),
    (b"data:\ndata:\n\n", [b"\n"]),
    (b"event: nothing\n\ndata: a\n\n", [b"a"]),
    (b"datax: no\ndata: a\n\n", [b"a"]),
    ("data: grüße, 船\n\n".encode(), ["grüße, 船".encode()]),
    (b"data: a\n\ndata: not ended\n", [b"a"]),
    (b"data: [DONE]\n\n", [b"[DONE]"]),
    (b"", []),
]


def read(framing: Framing, raw: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    events = [event for start, end in itertools.pairwise(edges) for event in framing.feed(raw[start:end])]
    return events + framing.end()


@pytest.mark.parametrize(("raw", "events"), STREAMS)
def test_every_cut_of_a_stream_gives_its_events(raw: bytes, events: list[bytes]) -> None:
    for cut in range(len(raw) + 1):
        assert read(ServerSentEvents(), raw, [cut]) == events
    assert read(ServerSentEvents(), raw, list(range(len(raw)))) == events


@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8")).map(str.encode), min_size=1),
        max_size=5,
    ),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.lists(st.integers(0, 10_000)),
)
def test_what_was_written_is_read_back(written: list[list[bytes]], end: bytes, cuts: list[int]) -> None:
    raw = b"".join(b"".join(b"data: " + line + end for line in lines) + end for lines in written)
    assert read(ServerSentEvents(), raw, cuts) == [b"\n".join(lines) for lines in written]


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        (b'{"a":1}\n{"b":2}\n', [b'{"a":1}', b'{"b":2}']),
        (b'{"a":1}\n\n \n{"b":2}', [b'{"a":1}', b'{"b":2}']),
        (b"\n", []),
    ],
)
def test_every_cut_of_lines_gives_them(raw: bytes, lines: list[bytes]) -> None:
    for cut in range(len(raw) + 1):
        assert read(JsonLines(), raw, [cut]) == lines


@pytest.mark.parametrize("framing", [ServerSentEvents(), JsonLines()])
def test_an_endless_event_is_refused(framing: Framing) -> None:
    block = b"data: " + b"x" * (1 << 20)
    for _ in range(MAX_EVENT_BYTES // len(block) - 1):
        assert framing.feed(block) == []
    with pytest.raises(TooLong):
        framing.feed(block * 2)
