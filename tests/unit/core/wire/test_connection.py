"""Requests over real connections: endings, deadlines, leaving, and streams that are too fast."""

import asyncio

import pytest

from tests.unit.core.wire import scripted
from tests.unit.core.wire.scripted import OK, Act, Step
from trainyard.core import wire
from trainyard.core.wire.connection import JOINED_BYTES, MAX_UNREAD_BYTES

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
LONG = b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n"


@pytest.mark.parametrize(
    ("script", "status", "body"),
    [
        ([OK], 200, b"hello"),
        ([OK[:20], Act.PAUSE, OK[20:40], Act.PAUSE, OK[40:]], 200, b"hello"),
        ([OK[:-5], Act.PAUSE, b"hello"], 200, b"hello"),
        ([CHUNKED + b"2\r\nhe\r\n", Act.PAUSE, b"3\r\nllo\r\n0\r\n\r\n"], 200, b"hello"),
        ([b"HTTP/1.1 200 OK\r\n\r\nhello", Act.CLOSE], 200, b"hello"),
        ([b"HTTP/1.1 200 OK\r\n\r\nhe", Act.PAUSE, b"llo", Act.PAUSE, Act.CLOSE], 200, b"hello"),
        ([b"HTTP/1.0 200 OK\r\n\r\n", Act.CLOSE], 200, b""),
        ([b"HTTP/1.1 100 Continue\r\n\r\n", Act.PAUSE, OK], 200, b"hello"),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], 204, b""),
        ([b"HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\n", Act.PAUSE, b"busy"], 503, b"busy"),
        ([b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"], 302, b""),
    ],
)
async def test_an_answer_is_read_to_its_end(script: list[Step], status: int, body: bytes) -> None:
    async with scripted.serving(script) as (_, client):
        for _ in range(2):
            assert (await client.whole())[::2] == (status, body)


@pytest.mark.parametrize("size", [0, 1, JOINED_BYTES, JOINED_BYTES + 1, 5_000_000])
async def test_a_request_goes_out_with_its_head_and_length(size: int) -> None:
    async with scripted.serving([OK]) as (server, client):
        body = b"b" * size
        await client.whole(body)
        await client.whole(body)
        head = (
            b"POST /v1/x HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        )
        assert server.requests == [(head % (server.port, size), body)] * 2


BEGUN = (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", CHUNKED)


@pytest.mark.parametrize(
    ("sent", "stage"),
    [(b"", wire.Stage.NOTHING), (b"H", wire.Stage.HEAD), (b"HTTP/1.1 200 OK\r\nx: 1\r\n", wire.Stage.HEAD)]
    + [(sent, wire.Stage.BODY) for sent in BEGUN],
)
@pytest.mark.parametrize("ending", [Act.CLOSE, Act.RESET])
async def test_an_end_before_the_answers_own_says_how_far_it_had_come(
    sent: bytes, stage: wire.Stage, ending: Act
) -> None:
    async with scripted.serving([sent, Act.PAUSE, ending]) as (_, client):
        with pytest.raises(wire.Dropped) as caught:
            await client.whole()
        assert caught.value.stage is stage


async def test_a_reset_is_no_end_of_a_body_without_length() -> None:
    async with scripted.serving([b"HTTP/1.1 200 OK\r\n\r\nhello", Act.PAUSE, Act.HANG]) as (_, client):
        connection = await client.begin()
        connection.connection_lost(ConnectionResetError())
        assert await connection.read(scripted.now_s() + 5) == b"hello"
        with pytest.raises(wire.Dropped):
            await connection.read(scripted.now_s() + 5)


@pytest.mark.parametrize(
    "raw",
    [b"this is no HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\nx: " + b"x" * 100_000 + b"\r\n\r\n", CHUNKED + b"xyz\r\n"],
    ids=["no-http", "long-head", "no-chunk"],
)
async def test_what_is_not_http_is_refused(raw: bytes) -> None:
    async with scripted.serving([raw, Act.HANG]) as (server, client):
        with pytest.raises(wire.NotHttp):
            await client.whole()
        await asyncio.wait_for(server.gone.wait(), 5)


# --------------------------------------------------------------------- streams
async def test_a_stream_is_given_block_by_block_and_its_fault_after_them() -> None:
    blocks: list[Step] = [
        CHUNKED,
        Act.PAUSE,
        b"2\r\nhe\r\n",
        Act.PAUSE,
        b"3\r\nllo\r\n",
        Act.PAUSE,
        b"xyz\r\n",
        Act.HANG,
    ]
    async with scripted.serving([*blocks, Act.HANG]) as (_, client):
        connection = await client.begin()
        assert connection.answer.take() == b"he"
        assert await connection.read(scripted.now_s() + 5) == b"llo"
        with pytest.raises(wire.NotHttp):
            await connection.read(scripted.now_s() + 5)
        client.peer.give_back(connection)


async def test_a_block_that_comes_with_a_fault_is_given_first() -> None:
    async with scripted.serving([CHUNKED + b"2\r\nhe\r\nxyz\r\n", Act.HANG]) as (_, client):
        connection = await client.begin()
        assert connection.answer.take() == b"he"
        with pytest.raises(wire.NotHttp):
            await connection.read(scripted.now_s() + 5)


async def test_a_refused_stream_can_be_used_as_soon_as_its_head_has_come() -> None:
    async with scripted.serving([b"HTTP/1.1 500 X\r\ncontent-length: 5\r\n\r\n", Act.HANG]) as (_, client):
        connection = await client.begin()
        assert (connection.answer.status, connection.answer.take()) == (500, b"")
        with pytest.raises(wire.TimedOut):
            await connection.read(scripted.now_s() + 0.01)


@pytest.mark.parametrize("status", [200, 500])
async def test_a_server_that_is_too_fast_is_made_to_wait(status: int) -> None:
    head = b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n"
    size = 32 << 20
    async with scripted.serving([head % (status, size) + b"x" * size, Act.HANG], [OK]) as (_, client):
        connection = await client.begin()
        for _ in range(500):
            if connection.answer.unread_bytes > MAX_UNREAD_BYTES:
                break
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert MAX_UNREAD_BYTES < connection.answer.unread_bytes < 2 * MAX_UNREAD_BYTES
        read = len(connection.answer.take())
        while block := await connection.read(scripted.now_s() + 5):
            read += len(block)
            await asyncio.sleep(0)
        assert read == size
        client.peer.give_back(connection)


async def test_a_paused_connection_reads_on_for_the_next_request() -> None:
    """The rest of an answer comes in one read with more than may wait, and nobody reads it."""
    size = MAX_UNREAD_BYTES + 1
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size
    async with scripted.serving([head + b"x", Act.HANG]) as (_, client):
        connection = await client.begin()
        connection.data_received(b"x" * (size - 1))
        assert connection.answer.is_complete
        client.peer.give_back(connection)
        assert await client.connection() is connection
        waiting = connection.ask(b"POST / HTTP/1.1\r\nContent-Length: ", b"", scripted.now_s() + 5)
        await asyncio.sleep(0)
        connection.data_received(OK)
        await waiting
        assert connection.answer.take() == b"hello"


@pytest.mark.parametrize("size", [5, 1000, 3 * MAX_UNREAD_BYTES])
async def test_a_whole_answer_may_be_as_long_as_its_bound_and_no_longer(size: int) -> None:
    raw = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size
    async with scripted.serving([raw]) as (_, client):
        assert len((await client.whole(most_bytes=size))[2]) == size
        with pytest.raises(wire.TooLong):
            await client.whole(most_bytes=size - 1)


# ------------------------------------------------------------ time, and leaving
@pytest.mark.parametrize(
    "script", [[Act.HANG], [b"HTTP/1.1 20", Act.HANG], [LONG, Act.HANG], [LONG + b"hello", Act.HANG]]
)
async def test_a_deadline_closes_the_connection(script: list[Step]) -> None:
    async with scripted.serving(script) as (server, client):
        began_s = scripted.now_s()
        with pytest.raises(wire.TimedOut):
            await client.whole(timeout_s=0.05)
        assert 0.04 < scripted.now_s() - began_s < 4
        await asyncio.wait_for(server.gone.wait(), 5)


async def test_each_request_has_its_own_deadline_on_one_timer() -> None:
    """The timer of a connection was set by another request; it fires neither too early nor too late."""
    pause: list[Step] = [Act.PAUSE] * 50
    async with scripted.serving([OK], [*pause, OK], [OK], [Act.HANG]) as (server, client):
        await client.whole(timeout_s=0.4)
        await client.whole(timeout_s=10)  # takes longer than the deadline before
        await client.whole(timeout_s=20)
        began_s = scripted.now_s()
        with pytest.raises(wire.TimedOut):
            await client.whole(timeout_s=0.05)
        assert 0.04 < scripted.now_s() - began_s < 4
        assert server.connections == 1


async def test_a_timer_that_fires_while_nobody_waits_does_nothing() -> None:
    async with scripted.serving([OK]) as (server, client):
        await client.whole(timeout_s=0.3)
        await asyncio.sleep(0.4)
        await client.whole()
        assert server.connections == 1


async def test_who_leaves_is_seen_by_the_server() -> None:
    async with scripted.serving([Act.HANG]) as (server, client):
        task = asyncio.create_task(client.whole())
        await server.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.gone.wait(), 5)


async def test_who_leaves_after_the_answer_came_leaves_the_connection() -> None:
    async with scripted.serving([OK]) as (server, client):
        await client.whole()
        connection = await client.connection()
        waiting = connection.ask(client.origin.head("/x", {}), b"", scripted.now_s() + 5, 1000)
        waiting.cancel()
        await asyncio.sleep(0.05)
        assert connection.answer.is_complete
        client.peer.give_back(connection)
        await client.whole()
        assert server.connections == 1


async def test_a_closed_connection_takes_no_request() -> None:
    async with scripted.serving([OK]) as (_, client):
        connection = await client.connection()
        connection.close()
        with pytest.raises(wire.Dropped) as caught:
            await connection.ask(b"", b"", scripted.now_s() + 5)
        assert caught.value.stage is wire.Stage.NOTHING


async def test_an_answer_before_the_request_was_out_ends_the_connection() -> None:
    """The server reads no body; what waits to be sent would stand before the next request."""
    large = b"b" * (64 << 20)

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 X\r\ncontent-length: 0\r\n\r\n")
        await gone.wait()
        writer.close()

    gone = asyncio.Event()
    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as listening:
        client = scripted.Client(f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", wire.Pool())
        assert (await client.whole(large))[0] == 413
        assert client.peer.take(scripted.now_s()) is None
        gone.set()


async def test_a_server_is_never_waited_for_after_the_pool_is_closed() -> None:
    async with scripted.serving([Act.HANG]) as (server, client):
        task = asyncio.create_task(client.whole())
        await server.asked.wait()
        await client.pool.aclose()
        with pytest.raises(wire.Dropped):
            await task


@pytest.mark.parametrize("size", [0, JOINED_BYTES])
async def test_an_answer_that_is_there_before_the_request_is_out_is_not_its_answer(size: int) -> None:
    """Else the real one would be that of the next request."""
    async with scripted.serving([OK]) as (server, client):
        await client.whole()
        connection = await client.connection()
        waiting = connection.ask(client.origin.head("/x", {}), b"b" * size, scripted.now_s() + 5, 1000)
        connection.data_received(OK)
        with pytest.raises(wire.Dropped) as caught:
            await waiting
        assert caught.value.stage is wire.Stage.NOTHING
        client.peer.give_back(connection)
        await client.whole()
        assert (server.connections, len(server.requests)) == (2, 2)


async def test_a_request_whose_caller_leaves_in_the_same_turn_is_never_sent() -> None:
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with scripted.serving([OK]) as (server, client):
        connection = await client.connection()
        waiting = connection.ask(client.origin.head("/x", {}), b"", scripted.now_s() + 5, 1000)
        waiting.cancel()
        client.peer.give_back(connection)
        await asyncio.sleep(0.05)
        assert (server.requests, reported) == ([], [])


async def test_a_connection_that_was_lost_in_the_same_turn_writes_nothing() -> None:
    """uvloop raises when something is written to a transport that is closed."""
    reported: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with scripted.serving([OK]) as (_, client):
        connection = await client.connection()
        waiting = connection.ask(client.origin.head("/x", {}), b"", scripted.now_s() + 5, 1000)
        connection.connection_lost(ConnectionResetError())
        with pytest.raises(wire.Dropped):
            await waiting
        await asyncio.sleep(0)
        assert reported == []
