"""A connection to the runner of a pod, after both sides have proved themselves."""

import asyncio
import os
import socket
from typing import Final

from trainyard.sandbox.inside import handshake

_ANSWER_S: Final = 5.0
_KEEPALIVE: Final = {
    socket.TCP_KEEPIDLE: 15,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 30_000,
}
"""A node that is gone without a word is known to be within half a minute."""


class NotReached(Exception):
    """There is no runner behind an address, or one that does not know the token."""


async def dial(address: str, port: int, token: str) -> socket.socket:
    """Connect to a runner and make sure of it.

    Raises:
        NotReached: It does not answer within five seconds, or is somebody else.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE.items():
        connection.setsockopt(socket.IPPROTO_TCP, option, value)
    try:
        async with asyncio.timeout(_ANSWER_S):
            await asyncio.get_running_loop().sock_connect(connection, (address, port))
            await _shake(connection, token.encode())
    except (OSError, TimeoutError) as error:
        connection.close()
        raise NotReached(f"{address}:{port} does not answer: {error or 'no answer'}") from error
    except BaseException:
        connection.close()
        raise
    return connection


async def _shake(connection: socket.socket, token: bytes) -> None:
    hello = await _exactly(connection, handshake.HELLO_BYTES)
    if not hello.startswith(handshake.MAGIC):
        raise NotReached("what listens there is no runner of this version; renew the image")
    theirs, ours = hello[len(handshake.MAGIC) :], os.urandom(handshake.NONCE_BYTES)
    proof = handshake.prove(token, b"server", theirs, ours)
    await asyncio.get_running_loop().sock_sendall(connection, ours + proof)
    answer = await _exactly(connection, handshake.PROOF_BYTES)
    if not handshake.is_proof(token, b"runner", theirs, ours, answer):
        raise NotReached("what listens there does not know the token of its pod")


async def _exactly(connection: socket.socket, size: int) -> bytes:
    held = b""
    while len(held) < size:
        received = await asyncio.get_running_loop().sock_recv(connection, size - len(held))
        if not received:
            raise NotReached("the runner closes the connection")
        held += received
    return held
