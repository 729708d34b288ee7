"""A pool over a zygote whose boxes are no good."""

import asyncio
import os
import socket
import sys
from pathlib import Path

from trainyard.core.clock import SystemClock
from trainyard.sandbox.backends.local.link import Link, Opened
from trainyard.sandbox.backends.local.pool import Pool
from trainyard.sandbox.backends.local.ward import Ward
from trainyard.sandbox.inside import frames


class Refusing(Link):
    """Gives boxes whose runner carries out no order; counts them."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"))
        self.given = 0
        self.third = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> Opened:
        """Start a process that waits, and answer in its place."""
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")
        ours, theirs = socket.socketpair()
        self._tasks.append(asyncio.create_task(self._refuse(theirs)))
        self.given += 1
        if self.given == 3:
            self.third.set()
        return Opened(ours, os.pidfd_open(process.pid), process.pid)

    async def _refuse(self, runner: socket.socket) -> None:
        with runner:
            runner.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_recv(runner, 1 << 20)
            answer = {"id": 1, "event": "failed", "code": "io_error", "message": "No space left on device"}
            await loop.sock_sendall(runner, frames.encode(answer))
            await loop.sock_recv(runner, 1)


async def test_boxes_that_run_nothing_are_ended_and_take_no_place() -> None:
    link, ward = Refusing(), Ward()
    pool = Pool(link, ward, "lean", size=1, limit=2, clock=SystemClock(), take_s=1.0)
    pool.start()
    async with asyncio.timeout(20):
        await link.third.wait()
    await pool.stop()
    await ward.end_all()
    assert len(ward) == 0
