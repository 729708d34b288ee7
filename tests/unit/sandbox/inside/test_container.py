import json

import pytest

from trainyard.sandbox.inside import container
from trainyard.sandbox.inside.container import Variable

WHOLE = (Variable("a", 10, ()), Variable("b", 7, (5, 64)), Variable("ä", 3, (1,)))


def _with_header(text: bytes) -> bytes:
    return container.START.pack(container.FORMAT, len(text)) + text


def test_the_header_tells_everything_without_the_rest() -> None:
    _, start = container.build("3.11.7", "ab" * 32, WHOLE)
    header = container.state_header(start)
    assert (header.python, header.pickles_sha256, header.variables) == ("3.11.7", "ab" * 32, WHOLE)
    assert start[0] == 3
    assert container.header_bytes(start[:5]) == len(start) == header.body_at
    assert [variable.size_bytes for variable in header.variables] == [10, 76, 4]


def test_buffers_follow_the_pickles_at_multiples_of_64() -> None:
    header, start = container.build("3.11.7", "", WHOLE)
    at = header.body_at
    assert (len(start), at % 64) == (at, 0)
    assert header.buffers_at == at + 20
    assert list(header.buffers()) == [(at + 64, at + 69), (at + 128, at + 192), (at + 192, at + 193)]
    assert header.size_bytes == at + 193


def test_a_state_of_nothing_is_its_header() -> None:
    header, start = container.build("3.11.7", "", ())
    assert header.size_bytes == len(start)
    assert container.state_header(start) == header


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes are too few"),
        (b"\x03\0\0\0", "4 bytes are too few"),
        (b"\x01\0\0\0\x02{}", "begins with the byte 3, these bytes with 1"),
        (b"\x02lz4 of something", "begins with the byte 3, these bytes with 2"),
        (b"\x80\x05K\x01.", "these bytes with 128"),
        (b"\x03\xff\xff\xff\xff", "a header of 4294967295 bytes; at most 2097152"),
        (_with_header(b"{}")[:-1], "the header ends at byte 7, these are 6 bytes"),
        (_with_header(b"no"), "is no JSON"),
        (_with_header(b"\xff\xfe"), "is no JSON"),
        (_with_header(b"[" * 100_000), "is no JSON"),
        (_with_header(b"[]"), "lacks fields"),
        (_with_header(b"{}"), "lacks fields"),
    ],
)
def test_what_is_no_state_is_told(content: bytes, message: str) -> None:
    with pytest.raises(container.BadState, match=message):
        container.state_header(content)


@pytest.mark.parametrize(
    "change",
    [
        {"python": 3.11},
        {"pickles_sha256": None},
        {"variables": 5},
        {"variables": {"name": "a"}},
        {"variables": ["a"]},
        {"variables": [{"name": "a", "bytes": 1}]},
        {"variables": [{"name": 1, "bytes": 1, "buffers": []}]},
        {"variables": [{"name": "a", "bytes": -1, "buffers": []}]},
        {"variables": [{"name": "a", "bytes": True, "buffers": []}]},
        {"variables": [{"name": "a", "bytes": 1.5, "buffers": []}]},
        {"variables": [{"name": "a", "bytes": 1 << 60, "buffers": []}]},
        {"variables": [{"name": "a", "bytes": 1, "buffers": "12"}]},
        {"variables": [{"name": "a", "bytes": 1, "buffers": [-1]}]},
    ],
)
def test_a_field_of_another_form_is_told(change: dict[str, object]) -> None:
    fields = {"python": "3.11.7", "pickles_sha256": "", "variables": []} | change
    with pytest.raises(container.BadState, match="lacks fields, or has them in another form"):
        container.state_header(_with_header(json.dumps(fields).encode()))
