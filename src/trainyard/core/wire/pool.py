"""All servers that requests go to, one `Peer` per scheme, host and port."""

import asyncio
import ssl
from typing import Final
from weakref import WeakSet, WeakValueDictionary

from trainyard.core.wire.connection import Connection
from trainyard.core.wire.origin import Origin
from trainyard.core.wire.peer import Peer, Resolve, Rules, lookup

KEEP_ALIVE_S: Final = 4.0
"""Shorter than the 5 s of uvicorn, below which most of these servers run, so that none closes under a request."""


class Pool:
    """Finds peers, and closes every connection at the end.

    Args:
        keep_alive_s: Longest time that a connection waits for its next request.
        tls: Whose certificates are believed; those that this machine believes when left out.
        resolve: Finds the addresses of a host.
    """

    def __init__(
        self, keep_alive_s: float = KEEP_ALIVE_S, tls: ssl.SSLContext | None = None, resolve: Resolve = lookup
    ) -> None:
        self._rules = Rules(keep_alive_s=keep_alive_s, tls=tls, resolve=resolve)
        self._peers: WeakValueDictionary[tuple[bool, str, int], Peer] = WeakValueDictionary()
        self._open: WeakSet[Connection] = WeakSet()

    def peer(self, origin: Origin) -> Peer:
        """Find the server of an origin; origins of one scheme, host and port share its connections."""
        key = (origin.is_tls, origin.host, origin.port)
        found = self._peers.get(key)
        if found is None:
            found = self._peers[key] = Peer(origin, self._rules, self._open.add)
        return found

    async def aclose(self) -> None:
        """Close every connection, those in use too; who waits on one gets `Dropped`."""
        for connection in list(self._open):
            connection.close()
        for peer in list(self._peers.values()):
            peer.stop()
        await asyncio.sleep(0)  # transports close in the loop's next round
