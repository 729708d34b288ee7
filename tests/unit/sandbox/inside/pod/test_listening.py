"""The door of a pod: who gets in, who does not, and that it opens once."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from trainyard.sandbox.backends.kubernetes import dialing
from trainyard.sandbox.inside import handshake
from trainyard.sandbox.inside.pod.listening import Door

TOKEN = "t" * 43


class Opened:
    """A door that somebody waits at, in a thread."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self._door = Door("127.0.0.1", self.port, TOKEN.encode())
        self.got: list[socket.socket] = []
        self._thread = threading.Thread(target=lambda: self.got.append(self._door.wait()), daemon=True)
        self._thread.start()

    def join(self) -> socket.socket:
        self._thread.join(timeout=10)
        assert self.got
        return self.got[0]


@pytest.fixture
def door() -> Iterator[Opened]:
    opened = Opened()
    yield opened
    with suppress(dialing.NotReached):  # it is shut: somebody is in
        asyncio.run(dialing.dial("127.0.0.1", opened.port, TOKEN)).close()
    opened.join().close()


async def test_whoever_knows_the_token_gets_in_and_the_door_shuts(door: Opened) -> None:
    ours = await dialing.dial("127.0.0.1", door.port, TOKEN)
    theirs = await asyncio.to_thread(door.join)
    await asyncio.get_running_loop().sock_sendall(ours, b"frames")
    assert await asyncio.to_thread(theirs.recv, 6) == b"frames"
    with pytest.raises(dialing.NotReached):
        await dialing.dial("127.0.0.1", door.port, TOKEN)
    ours.close()


async def test_a_wrong_token_does_not_open_and_does_not_hold_up(door: Opened) -> None:
    with pytest.raises(dialing.NotReached, match="closes the connection"):
        await dialing.dial("127.0.0.1", door.port, "x" * 43)
    (await dialing.dial("127.0.0.1", door.port, TOKEN)).close()


def come_and_go(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.close()
    return connection


def say_nothing(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port))


def say_a_part(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(b"x" * (handshake.REPLY_BYTES - 1))
    return connection


def say_too_much(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(b"x" * 10_000)
    return connection


@pytest.mark.parametrize("stranger", [come_and_go, say_nothing, say_a_part, say_too_much])
async def test_strangers_are_no_reason_to_wait(door: Opened, stranger: Callable[[int], socket.socket]) -> None:
    strangers = [stranger(door.port) for _ in range(40)]
    (await dialing.dial("127.0.0.1", door.port, TOKEN)).close()
    for each in strangers:
        each.close()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(40), "no runner of this version"),
        (b"", "closes the connection"),
        (handshake.MAGIC + bytes(handshake.NONCE_BYTES) + bytes(handshake.PROOF_BYTES), "does not know the token"),
    ],
)
async def test_a_runner_that_is_none_is_not_believed(said: bytes, why: str) -> None:
    over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        with suppress(ConnectionError):
            if said:
                await reader.read(handshake.REPLY_BYTES)
            writer.close()
            await writer.wait_closed()
        over.set()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        with pytest.raises(dialing.NotReached, match=why):
            await dialing.dial("127.0.0.1", server.sockets[0].getsockname()[1], TOKEN)
        await over.wait()


def test_the_two_proofs_differ_and_depend_on_everything() -> None:
    proofs = {
        handshake.prove(token, role, runner, server)
        for token in (b"a", b"b")
        for role in (b"server", b"runner")
        for runner in (bytes(32), b"r" * 32)
        for server in (bytes(32), b"s" * 32)
    }
    assert len(proofs) == 16
