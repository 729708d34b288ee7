"""What upstreams do on the wire that the mock does not: long blocks, slow refusals, connections that end."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from tests.contract.serving import fleet
from tests.contract.serving.fleet import HELLO, Fleet
from tests.unit.core.wire.scripted import Act, Server, Step
from trainyard.core import errors
from trainyard.serving.types import pieces

WHOLE = b'{"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}'
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'


def answered(body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n%s\r\n%s" % (status, len(body), more, body)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(text: str) -> bytes:
    delta = {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}
    return b"data: " + msgspec.json.encode(delta) + b"\n\n"


@asynccontextmanager
async def serving(directory: Path, *scripts: Sequence[Step], more: str = "") -> AsyncIterator[tuple[Server, Fleet]]:
    async with Server(*scripts).listening() as server:
        url = f"http://127.0.0.1:{server.port}/v1"
        entry = f"  - {{name: odd, backend: openai, base_url: '{url}', retries: 0{more}}}"
        async with fleet.fleet(directory, entry) as yard:
            yield server, yard


@pytest.mark.parametrize(
    ("script", "connections"),
    [([answered(WHOLE)], 1), ([answered(WHOLE, more=b"connection: close\r\n"), Act.CLOSE], 5)],
)
async def test_whole_answers_share_a_connection_when_the_server_lets_them(
    tmp_path: Path, script: list[Step], connections: int
) -> None:
    async with serving(tmp_path, script) as (server, yard):
        for _ in range(5):
            assert (await yard.collect("odd")).text == "hi"
        assert server.connections == connections
        head = server.requests[0][0]
        assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % server.port)
        assert b"\r\nAccept-Encoding: identity\r\n" in head


@pytest.mark.parametrize("pause", [[], [Act.PAUSE]])
async def test_a_finished_stream_leaves_its_connection(tmp_path: Path, pause: list[Step]) -> None:
    script: list[Step] = [STREAM + chunk(event("hi")), *pause, chunk(DONE), *pause, b"0\r\n\r\n"]
    async with serving(tmp_path, script) as (server, yard):
        for _ in range(3):
            assert pieces.join(await yard.stream("odd")).text == "hi"
        assert server.connections == 1


async def test_a_stream_that_is_not_ended_by_its_server_is_left(tmp_path: Path) -> None:
    async with serving(tmp_path, [STREAM + chunk(event("hi") + DONE), Act.HANG]) as (server, yard):
        assert pieces.join(await yard.stream("odd")).text == "hi"
        await asyncio.wait_for(server.gone.wait(), 5)


async def test_a_stream_may_begin_with_more_than_is_kept_unread(tmp_path: Path) -> None:
    many = b"".join(event("word ") for _ in range(40_000))
    assert len(many) > 3 << 20
    script: list[Step] = [STREAM + chunk(many), chunk(event("end") + DONE) + b"0\r\n\r\n"]
    async with serving(tmp_path, script) as (_, yard):
        made = pieces.join(await yard.stream("odd"))
        assert made.text == "word " * 40_000 + "end"


REASON = b'{"error": {"message": "no such thing"}}'
BAD = answered(REASON, b"400 Bad")
LONGER = b"HTTP/1.1 400 Bad\r\ncontent-length: 99\r\n\r\n" + REASON


@pytest.mark.parametrize(
    "script",
    [
        [BAD],
        [BAD[:-10], Act.PAUSE, BAD[-10:]],
        [b"HTTP/1.1 400 Bad\r\n\r\n" + REASON, Act.CLOSE],
        [LONGER, Act.HANG],
        [LONGER, Act.PAUSE, Act.CLOSE],
    ],
    ids=["one-piece", "two-pieces", "until-close", "stalled", "cut"],
)
@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_refusal_is_told_however_its_reason_comes(tmp_path: Path, script: list[Step], is_stream: bool) -> None:
    async with serving(tmp_path, script) as (_, yard):
        with pytest.raises(errors.InvalidRequest, match="no such thing"):
            await (yard.stream("odd") if is_stream else yard.collect("odd"))


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_status_counts_though_its_reason_does_not_come_or_has_no_end(tmp_path: Path, is_stream: bool) -> None:
    endless = b"HTTP/1.1 503 Busy\r\ntransfer-encoding: chunked\r\n\r\n" + chunk(b"x" * 4096) * 100
    cut = b"HTTP/1.1 503 Busy\r\ncontent-length: 9\r\n\r\n"
    scripts: list[list[Step]] = [[endless, Act.HANG], [cut, Act.CLOSE], [answered(WHOLE)]]
    async with serving(tmp_path, *scripts) as (server, yard):
        for _ in range(2):
            with pytest.raises(errors.UpstreamFailed, match="answered with status 503"):
                await (yard.stream("odd") if is_stream else yard.collect("odd"))
        assert server.connections == 2


async def test_retry_after_of_a_refusal_is_passed_on(tmp_path: Path) -> None:
    async with serving(tmp_path, [answered(b"{}", b"429 Busy", b"Retry-After: 7\r\n")]) as (server, yard):
        for _ in range(2):
            with pytest.raises(errors.Unavailable) as caught:
                await yard.collect("odd")
            assert caught.value.retry_after_s == 7
        assert server.connections == 1


async def test_an_answer_beyond_all_measure_is_refused(tmp_path: Path) -> None:
    block = chunk(b" " * (8 << 20))
    script: list[Step] = [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", *[block] * 9, Act.HANG]
    async with serving(tmp_path, script) as (_, yard):
        with pytest.raises(errors.UpstreamFailed, match="answered with too many bytes"):
            await yard.collect("odd")
    assert yard.counted("trainyard_upstream_attempts_total", model="odd", outcome="garbage") == 1


@pytest.mark.parametrize("is_stream", [False, True])
async def test_a_connection_that_ended_meanwhile_is_no_failure(tmp_path: Path, is_stream: bool) -> None:
    script: list[Step] = [STREAM + chunk(event("hi") + DONE) + b"0\r\n\r\n"] if is_stream else [answered(WHOLE)]
    async with serving(tmp_path, script) as (server, yard):
        for _ in range(3):
            made = pieces.join(await yard.stream("odd")) if is_stream else await yard.collect("odd")
            assert made.text == "hi"
            server.close_all()
            await asyncio.sleep(0.02)
        assert server.connections == 3
    assert yard.counted("trainyard_upstream_attempts_total", model="odd", outcome="ok") == 3


async def test_a_place_is_given_back_by_who_leaves(tmp_path: Path) -> None:
    scripts: list[list[Step]] = [[Act.HANG], [Act.HANG], [answered(WHOLE)]]
    async with serving(tmp_path, *scripts, more=", max_concurrency: 1") as (server, yard):
        for _ in range(2):
            server.gone.clear()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await yard.collect("odd")
            await asyncio.wait_for(server.gone.wait(), 5)
        assert (await yard.collect("odd", HELLO)).text == "hi"
