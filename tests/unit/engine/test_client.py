"""A connection that ends at awkward moments."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from trainyard.core import errors
from trainyard.engine import calls, protocol, switchboard
from trainyard.engine.channel import Channel
from trainyard.engine.client import Connection, SocketEngine


@pytest.fixture
async def socket(tmp_path: Path) -> AsyncIterator[Path]:
    """An engine that answers pings and hangs up at a call."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        channel = Channel(reader, writer)
        while [frame.kind for frame in await channel.receive()] == [protocol.Kind.PING]:
            channel.post(0, protocol.Kind.PING)
        await channel.aclose()

    server = await asyncio.start_unix_server(serve, tmp_path / "s")
    yield tmp_path / "s"
    server.close()
    await server.wait_closed()


async def test_a_connection_closed_before_it_was_read_lets_go_of_its_socket(socket: Path) -> None:
    reader, writer = await asyncio.open_unix_connection(socket)
    connection = Connection(Channel(reader, writer))
    await connection.aclose()
    assert writer.is_closing()
    assert not connection.is_open


async def test_nothing_waits_on_a_connection_whose_calls_were_failed(socket: Path) -> None:
    connection = Connection(Channel(*await asyncio.open_unix_connection(socket)))
    with connection.board.call() as (number, future):
        await connection.call(number, calls.Info())
        with pytest.raises(errors.Unavailable):
            await future
    assert not connection.is_open
    with pytest.raises(errors.Unavailable):
        async with asyncio.timeout(5):
            await connection.ping()


async def test_an_engine_that_hung_up_is_connected_to_again(socket: Path) -> None:
    engine = SocketEngine(socket)
    with pytest.raises(errors.Unavailable) as away:
        await engine.info()
    assert away.value.code == switchboard.engine_away("").code
    await engine.ping()
    await engine.aclose()
