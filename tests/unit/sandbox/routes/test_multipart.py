"""Forms cut into pieces anywhere; what is malformed is in the table of the contract tests."""

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainyard.core import errors
from trainyard.sandbox.routes.multipart import FormReader, Head

KIND = "multipart/form-data; boundary=xyz"
FORM = (
    b'--xyz\r\nContent-Disposition: form-data; name="id"\r\n\r\n7\r\n'
    b'--xyz\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\nCONTENT-TYPE: text/plain\r\n\r\n'
    b"line\r\n--xy\r\n-xyz\r\n"
    b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="empty"\r\n\r\n\r\n--xyz--\r\nepilogue'
)
PARTS = [
    (Head("id", None, "application/octet-stream"), b"7"),
    (Head("file", "a.txt", "text/plain"), b"line\r\n--xy\r\n-xyz"),
    (Head("file", "empty", "application/octet-stream"), b""),
]


async def pieces(raw: bytes, *cuts: int) -> AsyncIterator[bytes]:
    ends = [*sorted(cuts), len(raw)]
    begin = 0
    for end in ends:
        yield raw[begin:end]
        begin = end


async def parts(reader: FormReader) -> list[tuple[Head, bytes]]:
    found = []
    while (head := await reader.next_part()) is not None:
        found.append((head, b"".join([piece async for piece in reader.content()])))
    return found


async def test_parts_come_in_turn() -> None:
    assert await parts(FormReader(KIND, pieces(FORM))) == PARTS


@given(cuts=st.lists(st.integers(0, len(FORM)), max_size=20))
async def test_it_does_not_matter_where_a_form_is_cut(cuts: list[int]) -> None:
    assert await parts(FormReader(KIND, pieces(FORM, *cuts))) == PARTS


async def test_byte_by_byte() -> None:
    assert await parts(FormReader(KIND, pieces(FORM, *range(len(FORM))))) == PARTS


@pytest.mark.parametrize("end", range(0, FORM.index(b"--xyz--") + 6, 7))
async def test_a_form_that_ends_anywhere_before_its_end_is_refused(end: int) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        await parts(FormReader(KIND, pieces(FORM[:end])))
    assert refused.value.code == "invalid_multipart"


async def test_what_is_left_of_a_part_is_passed_over() -> None:
    reader = FormReader(KIND, pieces(FORM, *range(len(FORM))))
    heads = []
    while (head := await reader.next_part()) is not None:
        heads.append(head)
        async for _piece in reader.content():
            break
    assert heads == [head for head, _ in PARTS]


async def test_a_form_that_cannot_be_read_stays_so() -> None:
    """Who catches the fault of one file does not get the rest of the form as if nothing had been."""
    reader = FormReader(KIND, pieces(b"--xyz\r\nContent-Disposition form-data\r\n\r\n" + FORM))
    for _ in range(2):
        with pytest.raises(errors.InvalidRequest, match="cannot be read"):
            await reader.next_part()


async def test_a_file_of_any_size_is_never_held_whole() -> None:
    """One piece of the body at a time is asked for, and only when the one before is used up."""
    asked = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal asked
        yield b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        while True:
            asked += 1
            yield b"x" * 65_536

    reader = FormReader(KIND, endless())
    assert await reader.next_part() is not None
    taken = 0
    async for piece in reader.content():
        taken += len(piece)
        if taken > 10 * 65_536:
            break
    assert asked <= 12


@pytest.mark.parametrize("cut", range(0, 180, 7))
async def test_what_is_wrong_with_a_part_is_said_behind_the_parts_before_it_wherever_the_form_is_cut(cut: int) -> None:
    nameless = b"--xyz\r\nContent-Type: text/plain\r\n\r\nx\r\n"
    form = FORM.replace(b"--xyz\r\ncontent-disposition", nameless + b"--xyz\r\ncontent-disposition", 1)
    reader = FormReader(KIND, pieces(form, cut))
    assert await reader.next_part() == PARTS[0][0]
    assert await reader.text() == "7"
    for _ in range(2):
        with pytest.raises(errors.InvalidRequest, match="has no name"):
            await reader.next_part()
