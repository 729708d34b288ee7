"""Running the ASGI application on an inherited socket until a signal drains it."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from trainyard.core.http import heads
from trainyard.core.http.drain import Drain

_CLOSE_S = 1
"""What connections get to close once nothing runs on them, or the deadline of the drain has passed."""


class _Server(uvicorn.Server):
    """Leaves the signals to `run`, which drains before it ends."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def run(app: ASGIApp, listener: socket.socket, drain: Drain, drain_s: float) -> None:
    """Serve until SIGTERM or SIGINT, then drain: readiness flips, running requests end or meet the deadline.

    Args:
        app: The application; its lifespan runs here.
        listener: Bound and listening.
        drain: Begun at the signal.
        drain_s: Seconds that running requests get.
    """
    config = uvicorn.Config(
        app,
        http=heads.BoundedHeads,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_CLOSE_S,
    )
    server = _Server(config)
    stop = asyncio.Event()
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
