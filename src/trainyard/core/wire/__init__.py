"""HTTP/1.1 as a client: kept connections, one write per request, one wake-up per small answer.

No redirects, cookies, proxies or decompression; one request at a time on a connection.
"""

from trainyard.core.wire.answer import Answer
from trainyard.core.wire.connection import Connection
from trainyard.core.wire.failures import ConnectFailed, Dropped, NotHttp, Stage, TimedOut, TooLong, WireError
from trainyard.core.wire.origin import Origin
from trainyard.core.wire.peer import Peer
from trainyard.core.wire.pool import KEEP_ALIVE_S, Pool

__all__ = [
    "KEEP_ALIVE_S",
    "Answer",
    "ConnectFailed",
    "Connection",
    "Dropped",
    "NotHttp",
    "Origin",
    "Peer",
    "Pool",
    "Stage",
    "TimedOut",
    "TooLong",
    "WireError",
]
