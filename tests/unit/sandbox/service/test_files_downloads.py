"""What a download is charged with."""

from collections.abc import AsyncIterator

import pytest

from tests.unit.sandbox.service.conftest import ANNA, Server
from trainyard.core import errors


async def _pieces(*sizes: int, breaks: bool = False) -> AsyncIterator[bytes]:
    for size in sizes:
        yield b"x" * size
    if breaks:
        raise errors.Unavailable("The blobs are away", code="blobs_unavailable")


async def test_a_download_is_a_request_and_the_bytes_that_were_sent(server: Server) -> None:
    session, ids = await server.upload(a_txt="x" * 5000)
    before = len(server.meter.settled)
    _, content = await server.service.open_file(ANNA, session, ids["a.txt"])
    assert len(server.meter.opened) == before  # looking at a file is none
    sent = [piece async for piece in server.service.send(ANNA, content, request_id="req_d")]
    assert len(b"".join(sent)) == 5000
    (charge,) = server.meter.settled[before:]
    assert (charge.job.route, charge.job.model) == ("/download/{session_id}/{file_id}", "sandbox/files")
    assert (charge.job.request_id, charge.principal) == ("req_d", ANNA)
    assert charge.used is not None
    assert charge.used.work is not None
    assert (charge.used.work.bytes_out, charge.used.outcome) == (5000, "done")
    assert (charge.used.prompt_tokens, charge.used.completion_tokens, charge.job.max_completion_tokens) == (0, 0, 0)


@pytest.mark.parametrize(("drawn", "bytes_out"), [(1, 10), (2, 30)])
async def test_whoever_leaves_a_download_is_charged_with_what_was_drawn(
    server: Server, drawn: int, bytes_out: int
) -> None:
    sending = server.service.send(ANNA, _pieces(10, 20, 30), request_id="req_d")
    for _ in range(drawn):
        await anext(sending)
    await sending.aclose()
    (charge,) = server.meter.settled
    assert charge.used is not None
    assert charge.used.work is not None
    assert (charge.used.work.bytes_out, charge.used.outcome) == (bytes_out, "cancelled")


async def test_a_download_that_breaks_is_charged_with_what_was_sent(server: Server) -> None:
    with pytest.raises(errors.Unavailable):
        _ = [piece async for piece in server.service.send(ANNA, _pieces(10, breaks=True), request_id="req_d")]
    (charge,) = server.meter.settled
    assert charge.used is not None
    assert charge.used.work is not None
    assert (charge.used.work.bytes_out, charge.used.outcome) == (10, "failed")


async def test_a_download_of_which_nothing_came_is_not_charged(server: Server) -> None:
    with pytest.raises(errors.Unavailable):
        _ = [piece async for piece in server.service.send(ANNA, _pieces(breaks=True), request_id="req_d")]
    assert [charge.is_refunded for charge in server.meter.opened] == [True]


async def test_an_empty_file_is_a_download_too(server: Server) -> None:
    assert [piece async for piece in server.service.send(ANNA, _pieces(), request_id="req_d")] == []
    assert len(server.meter.settled) == 1
