"""Running the ASGI application on an inherited socket until a signal drains it."""

import asyncio
import contextlib
import gc
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from trainyard.core.http import heads
from trainyard.core.http.drain import Drain

_CLOSE_S = 1
"""What connections get to close once nothing runs on them, or the deadline of the drain has passed."""


_DESCRIPTORS = 65_536

_HANDSHAKE_S = 10.0
"""From a connection to the end of its TLS handshake; until then nothing counts or bounds it."""

_YOUNG_OBJECTS = 10_000
"""New objects after which the collector looks at them; about a hundred requests, a few MB."""


class _Server(uvicorn.Server):
    """Leaves the signals to `run`, which drains before it ends, and also listens on a unix socket."""

    def __init__(self, config: uvicorn.Config, local: Path | None, tls: ssl.SSLContext | None) -> None:
        super().__init__(config)
        self._local = local
        self._tls = tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen on the given sockets, and on the local one once everything is up."""
        await super().startup([] if self._tls else sockets)
        _spare_collector()
        if not self.started:
            return
        loop = asyncio.get_running_loop()
        for listener in (sockets or []) if self._tls else []:
            self.servers.append(
                await loop.create_server(
                    self._protocol, sock=listener, ssl=self._tls, ssl_handshake_timeout=_HANDSHAKE_S
                )
            )
        if self._local is not None:
            self._local.unlink(missing_ok=True)  # of a process that was killed
            self.servers.append(await loop.create_unix_server(self._local_protocol, str(self._local)))

    def _protocol(self) -> heads.BoundedHeads:
        return heads.BoundedHeads(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def _local_protocol(self) -> heads.BoundedHeads:
        """What comes by the local socket comes from our other processes, who speak with clients as this one does."""
        made = self._protocol()
        made.outer_scheme = "https" if self._tls else "http"
        return made

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _spare_collector() -> None:
    """Take all that the start has made out of the garbage collector's sight, and have it look less often.

    Otherwise it walks some hundred thousand objects that live as long as the process, every few hundred requests.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG_OBJECTS)


def _use_descriptors() -> None:
    """Take as many descriptors as this process may have; 1024, a usual beginning, holds few streams."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


async def run(
    app: ASGIApp,
    listener: socket.socket,
    drain: Drain,
    drain_s: float,
    *,
    local: Path | None = None,
    tls: ssl.SSLContext | None = None,
    on_hangup: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain: readiness flips, running requests end or meet the deadline.

    Args:
        app: The application; its lifespan runs here.
        listener: Bound and listening.
        drain: Begun at the signal.
        drain_s: Seconds that running requests get.
        local: Path of a unix socket to listen on too.
        tls: Spoken on `listener`, not on the unix socket; None = HTTP.
        on_hangup: Called at SIGHUP.
    """
    _use_descriptors()
    config = uvicorn.Config(
        app,
        http=heads.BoundedHeads,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # where they matter the application reads them itself
        timeout_graceful_shutdown=_CLOSE_S,
    )
    server = _Server(config, local, tls)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, on_hangup)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    async def drain_at_signal() -> None:
        await stop.wait()
        drain.begin()
        await drain.wait(drain_s)
        server.should_exit = True

    watching = asyncio.create_task(drain_at_signal())
    try:
        await server.serve(sockets=[listener])
    finally:
        watching.cancel()
