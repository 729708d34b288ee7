"""All servers that requests go to, one `Peer` per scheme, host and port."""

import asyncio
import ssl
from weakref import WeakSet, WeakValueDictionary

from trainyard.core.wire.connection import Connection
from trainyard.core.wire.origin import Origin, trusting
from trainyard.core.wire.peer import Peer


class Pool:
    """Finds peers, and closes every connection at the end.

    Args:
        tls: Whose certificates are believed; those that this machine believes when left out.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._peers: WeakValueDictionary[tuple[bool, str, int], Peer] = WeakValueDictionary()
        self._open: WeakSet[Connection] = WeakSet()

    def peer(self, origin: Origin) -> Peer:
        """Find the server of an origin; origins of one scheme, host and port share its connections."""
        key = (origin.is_tls, origin.host, origin.port)
        found = self._peers.get(key)
        if found is None:
            tls = (self._tls or trusting()) if origin.is_tls else None
            found = self._peers[key] = Peer(origin.host, origin.port, tls, self._open.add)
        return found

    async def aclose(self) -> None:
        """Close every connection, those in use too; who waits on one gets `Dropped`."""
        for connection in list(self._open):
            connection.close()
        for peer in list(self._peers.values()):
            peer.stop()
        await asyncio.sleep(0)  # transports close in the loop's next round
