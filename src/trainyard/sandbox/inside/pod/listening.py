"""Waiting for the one server that knows the token."""

import os
import selectors
import socket
import time
from contextlib import ExitStack, suppress
from typing import Final

from trainyard.sandbox.inside import handshake

_PATIENCE_S: Final = 5.0
"""For the answer of one peer; probes of the kubelet, which say nothing, are gone sooner."""

_MOST_PEERS: Final = 16
_KEEPALIVE: Final = {
    socket.TCP_KEEPIDLE: 15,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 30_000,
}
"""A server whose machine is gone without a word is known to be within half a minute."""


class _Peer:
    """A connection that has not proved itself yet."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.nonce = connection, os.urandom(handshake.NONCE_BYTES)
        self.held, self.until = b"", time.monotonic() + _PATIENCE_S


class Door:
    """Listens on one address; opens once.

    Args:
        host: Address of this pod, version 4 or 6.
    """

    def __init__(self, host: str, port: int, token: bytes) -> None:
        self._token = token
        self._selector = selectors.DefaultSelector()
        self._peers: set[_Peer] = set()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listening = socket.create_server((host, port), family=family, backlog=_MOST_PEERS)
        self._listening.setblocking(False)
        self._selector.register(self._listening, selectors.EVENT_READ)

    def wait(self) -> socket.socket:
        """Give the connection of the first peer that knows the token; every other one is closed, and the door shut."""
        while True:
            for key, _ in self._selector.select(_PATIENCE_S if self._peers else None):
                if key.data is None:
                    self._greet()
                elif self._is_proved(key.data):
                    self._shut(key.data)
                    connection: socket.socket = key.data.connection
                    connection.setblocking(True)
                    return connection
            for peer in [peer for peer in self._peers if peer.until < time.monotonic()]:
                self._drop(peer)

    def _greet(self) -> None:
        with suppress(OSError), ExitStack() as unless_kept:  # it went away again
            connection, _ = self._listening.accept()
            unless_kept.callback(connection.close)
            if len(self._peers) >= _MOST_PEERS:  # the server answers within milliseconds, so it is not the oldest
                self._drop(min(self._peers, key=lambda peer: peer.until))
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for option, value in _KEEPALIVE.items():
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
            peer = _Peer(connection)
            self._selector.register(connection, selectors.EVENT_READ, peer)
            self._peers.add(peer)
            unless_kept.pop_all()
            self._say(peer, handshake.MAGIC + peer.nonce)

    def _is_proved(self, peer: _Peer) -> bool:
        """Take what a peer says; whether that was the proof."""
        try:
            received = peer.connection.recv(handshake.REPLY_BYTES - len(peer.held))
        except OSError:
            received = b""
        peer.held += received
        if not received:
            self._drop(peer)
        if len(peer.held) < handshake.REPLY_BYTES:
            return False
        nonce, proof = peer.held[: handshake.NONCE_BYTES], peer.held[handshake.NONCE_BYTES :]
        if not handshake.is_proof(self._token, b"server", peer.nonce, nonce, proof):
            self._drop(peer)
            return False
        return self._say(peer, handshake.prove(self._token, b"runner", peer.nonce, nonce))

    def _say(self, peer: _Peer, text: bytes) -> bool:
        """Send a few bytes, which an open connection always has room for; whether it was open."""
        try:
            is_sent = peer.connection.send(text) == len(text)
        except OSError:
            is_sent = False
        if not is_sent:
            self._drop(peer)
        return is_sent

    def _drop(self, peer: _Peer) -> None:
        if peer in self._peers:
            self._peers.remove(peer)
            self._selector.unregister(peer.connection)
            peer.connection.close()

    def _shut(self, proved: _Peer) -> None:
        self._peers.remove(proved)
        self._selector.unregister(proved.connection)
        for peer in list(self._peers):
            self._drop(peer)
        self._selector.close()
        self._listening.close()
