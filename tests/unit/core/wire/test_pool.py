"""Which connections are kept and used again, and how new ones come to stand."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.unit.core.wire import scripted
from tests.unit.core.wire.scripted import OK, Act, Client, Server, Step
from trainyard.core import wire
from trainyard.core.wire.racing import HEAD_START_S, first_of

PEM = Path(__file__).with_name("localhost.pem")
"""A key and a certificate signed with it, for localhost and 127.0.0.1; known to everybody, trusted by nobody."""

CLOSING = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello"


@pytest.mark.parametrize(
    ("script", "connections"),
    [
        ([OK], 1),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"], 1),
        ([b"HTTP/1.1 204 No Content\r\n\r\n"], 1),
        ([b"HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\nno"], 1),
        ([b"HTTP/1.1 100 Continue\r\n\r\n" + OK], 1),
        ([b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello"], 1),
        ([b"HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nhello"], 3),
        ([CLOSING], 3),
        ([CLOSING, Act.CLOSE], 3),
        ([OK, Act.CLOSE], 3),
        ([OK + b"surplus"], 3),
        ([OK + OK], 3),
        ([OK, Act.PAUSE, OK], 3),
        ([b"HTTP/1.1 200 OK\r\n\r\nhello", Act.CLOSE], 3),
    ],
)
async def test_a_connection_is_used_again_when_both_sides_can(script: list[Step], connections: int) -> None:
    async with scripted.serving(script) as (server, client):
        for _ in range(3):
            await client.whole()
            await asyncio.sleep(0.06)  # what the server does after its answer is seen
        assert server.connections == connections


async def test_requests_at_once_have_a_connection_each_and_the_one_used_last_is_next() -> None:
    async with scripted.serving([Act.PAUSE, OK]) as (server, client):
        await asyncio.gather(*(client.whole() for _ in range(5)))
        assert server.connections == 5
        first = await client.connection()
        second = await client.connection()
        client.peer.give_back(second)
        client.peer.give_back(first)
        assert await client.connection() is first
        await asyncio.gather(*(client.whole() for _ in range(3)))
        assert server.connections == 5


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used() -> None:
    async with scripted.serving([OK]) as (server, client):
        await client.whole()
        server.close_all()
        await asyncio.sleep(0.02)
        assert (await client.whole())[2] == b"hello"
        assert server.connections == 2


async def test_a_connection_is_kept_for_its_time_and_not_longer() -> None:
    async with scripted.serving([Act.PAUSE, OK], keep_alive_s=60) as (server, client):
        await asyncio.gather(client.whole(), client.whole())
        assert client.peer.take(scripted.now_s() + 59) is not None
        await asyncio.gather(client.whole(), client.whole())
        assert client.peer.take(scripted.now_s() + 61) is None
        assert client.peer.take(scripted.now_s()) is None
        await client.whole()
        assert server.connections == 4


async def test_idle_connections_are_closed_without_another_request() -> None:
    async with scripted.serving([OK], keep_alive_s=0.5) as (server, client):
        for _ in range(2):
            await client.whole()
            await asyncio.sleep(0.3)
        assert (server.connections, server.gone.is_set()) == (1, False)
        await asyncio.wait_for(server.gone.wait(), 5)
        assert client.peer.take(scripted.now_s()) is None


async def test_origins_of_one_server_share_its_connections() -> None:
    async with scripted.serving([OK]) as (server, client):
        other = Client(f"http://127.0.0.1:{server.port}/v2", client.pool)
        assert other.peer is client.peer
        await client.whole()
        await other.whole()
        assert server.connections == 1
        assert Client("http://127.0.0.1:1", client.pool).peer is not client.peer


# ------------------------------------------------------------------- connecting
async def test_nobody_listening_is_a_failure_to_connect() -> None:
    client = Client("http://127.0.0.1:1", wire.Pool())
    with pytest.raises(wire.ConnectFailed):
        await client.whole()


async def test_a_name_that_nobody_knows_is_a_failure_to_connect() -> None:
    client = Client("http://nobody.invalid", wire.Pool())
    with pytest.raises(wire.ConnectFailed):
        await client.whole(timeout_s=30)


@pytest.mark.parametrize(
    ("connect_s", "deadline_s", "kind"),
    [(0.02, 5, wire.ConnectFailed), (5, 0.02, wire.TimedOut), (5, -1, wire.TimedOut)],
)
async def test_connecting_has_its_time_and_the_request_its_own(
    connect_s: float, deadline_s: float, kind: type[wire.WireError]
) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        await asyncio.sleep(5)
        raise AssertionError

    peer = wire.Pool(resolve=resolve).peer(wire.Origin("http://far"))
    began_s = scripted.now_s()
    with pytest.raises(kind):
        await peer.connect(connect_s, began_s + deadline_s)
    assert scripted.now_s() - began_s < 4


@pytest.mark.parametrize("found", [["127.0.0.2", "127.0.0.3", "127.0.0.1"], ["127.0.0.1", "127.0.0.2"]])
async def test_all_addresses_of_a_name_are_tried(found: list[str]) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        assert host == "far.example"
        return found

    pool = wire.Pool(resolve=resolve)
    async with Server([OK]).listening() as server:
        assert (await Client(f"http://far.example:{server.port}", pool).whole())[2] == b"hello"
        assert b"\r\nHost: far.example:%d\r\n" % server.port in server.requests[0][0]
        await pool.aclose()


@asynccontextmanager
async def deaf(address: str, port: int) -> AsyncIterator[None]:
    """Make an address that hears nobody: the queue of who waits to be accepted is full."""
    with socket.socket() as full, socket.socket() as waiting:
        full.bind((address, port))
        full.listen(0)
        waiting.connect((address, port))
        yield


@pytest.mark.parametrize("found", [["127.0.0.2", "127.0.0.1"], ["127.0.0.2", "127.0.0.3", "127.0.0.1"]])
async def test_an_address_that_does_not_answer_is_not_waited_for(found: list[str]) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return found

    pool = wire.Pool(resolve=resolve)
    async with Server([OK]).listening() as server, deaf("127.0.0.2", server.port):
        began_s = scripted.now_s()
        assert (await Client(f"http://far:{server.port}", pool).whole())[2] == b"hello"
        assert HEAD_START_S * 0.9 < scripted.now_s() - began_s < 4
        await pool.aclose()


@pytest.mark.parametrize("found", [["127.0.0.2", "127.0.0.3"], ["127.0.0.3", "127.0.0.2"]])
async def test_the_slowest_address_has_all_the_time_there_is(found: list[str]) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return found

    pool = wire.Pool(resolve=resolve)
    async with Server([OK]).listening() as server, deaf("127.0.0.2", server.port):
        began_s = scripted.now_s()
        with pytest.raises(wire.ConnectFailed):
            await Client(f"http://far:{server.port}", pool).whole(timeout_s=0.5)
        assert 0.4 < scripted.now_s() - began_s < 4


async def test_of_two_connections_that_stand_at_once_one_is_closed() -> None:
    async with Server([OK]).listening() as server:
        peer = wire.Pool().peer(wire.Origin(f"http://127.0.0.1:{server.port}"))
        made: list[wire.Connection] = []
        both = asyncio.Event()

        async def connect(address: str) -> wire.Connection:
            made.append(await peer.connect(5, scripted.now_s() + 5))
            if len(made) == 2:
                both.set()
            await both.wait()
            return made[int(address)]

        winner = await first_of(["0", "1"], connect)
        (loser,) = (one for one in made if one is not winner)
        with pytest.raises(wire.Dropped):
            await loser.ask(b"", b"", scripted.now_s() + 5)
        await winner.ask(b"POST / HTTP/1.1\r\nContent-Length: ", b"", scripted.now_s() + 5)
        winner.close()


async def test_a_name_without_addresses_is_a_failure_to_connect() -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return []

    with pytest.raises(wire.ConnectFailed):
        await Client("http://far", wire.Pool(resolve=resolve)).whole()


@pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
async def test_an_ipv6_address_is_reached() -> None:
    pool = wire.Pool()
    try:
        async with Server([OK]).listening("::1") as server:
            assert (await Client(f"http://[::1]:{server.port}", pool).whole())[2] == b"hello"
            assert b"\r\nHost: [::1]:%d\r\n" % server.port in server.requests[0][0]
            await pool.aclose()
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")


# ------------------------------------------------------------------------- TLS
def _server_side() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    return context


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_https_is_spoken_with_whom_the_certificate_names(host: str) -> None:
    pool = wire.Pool(tls=ssl.create_default_context(cafile=str(PEM)))
    async with Server([OK]).listening(tls=_server_side()) as server:
        client = Client(f"https://{host}:{server.port}/v1", pool)
        for body in (b"{}", b"b" * 1_000_000):
            assert (await client.whole(body))[2] == b"hello"
        assert server.connections == 1
        assert server.requests[1][1] == b"b" * 1_000_000
        await pool.aclose()


@pytest.mark.parametrize(("host", "is_trusted"), [("localhost", False), ("other.example", True)])
async def test_a_certificate_that_is_not_believed_gets_no_request(host: str, is_trusted: bool) -> None:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    pool = wire.Pool(tls=ssl.create_default_context(cafile=str(PEM)) if is_trusted else None, resolve=resolve)
    async with Server([OK]).listening(tls=_server_side()) as server:
        with pytest.raises(wire.ConnectFailed):
            await Client(f"https://{host}:{server.port}", pool).whole()
        assert not server.requests
        await pool.aclose()


async def test_a_server_without_tls_gets_no_request() -> None:
    pool = wire.Pool()
    async with Server([OK]).listening() as server:
        with pytest.raises(wire.ConnectFailed):
            await Client(f"https://127.0.0.1:{server.port}", pool).whole(timeout_s=0.5)
        assert not server.requests
