"""The boxes of one HTTP process, from the zygote's answer until their namespaces are gone."""

import asyncio
import contextlib
import os
import select
import signal
from dataclasses import dataclass, field
from typing import Final

from trainyard.core import errors
from trainyard.sandbox.backends.base import Running
from trainyard.sandbox.backends.box import RunnerBox
from trainyard.sandbox.backends.local.link import Link, Opened
from trainyard.sandbox.types.orders import Flavor, Order

_NOTHING: Final = Order(code="", timeout_s=5.0)
"""Measured: a first run takes 640 page faults and 4 ms more than those after it."""


@dataclass(eq=False)
class Held:
    """A box that lives.

    Attributes:
        pidfd: Of its process 1; readable when that has ended, and with it every process of its namespace.
    """

    box: RunnerBox
    flavor: Flavor
    pid: int
    pidfd: int
    is_taken: bool = False
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def is_alive(self) -> bool:
        """Whether its process 1 runs now, be it that its end has not been told yet."""
        if self.gone.is_set() or not self.box.is_alive:
            return False
        looking = select.poll()
        looking.register(self.pidfd, select.POLLIN)
        return not looking.poll(0)


class Ward:
    """Knows every box of this process, and ends each completely."""

    def __init__(self) -> None:
        self._held: dict[str, Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    @property
    def is_busy(self) -> bool:
        """Whether any that is taken works on something."""
        return any(held.is_taken and held.box.is_busy for held in self._held.values())

    async def admit(self, link: Link, flavor: Flavor, *, is_warm: bool) -> Held:
        """Have a box made and take it in.

        Args:
            link: To the zygote that makes it.
            flavor: Of that zygote.
            is_warm: Whether it runs nothing once: the pages that a first run copies from the zygote are its own then.

        Raises:
            errors.Unavailable: None can be made.
        """
        held = await self._connect(await link.open(), flavor)
        if is_warm:
            try:
                await held.box.run(_NOTHING)
            except errors.TrainyardError as error:
                await held.box.close()
                message = f"a fresh box of the sandbox does not run: {error.message}"
                raise errors.Unavailable(message, code="sandbox_unavailable", retry_after_s=1.0) from error
        return held

    async def _connect(self, opened: Opened, flavor: Flavor) -> Held:
        box_id = f"{flavor}-{opened.pid}"

        async def end() -> None:
            await self._end(held)

        try:
            box = await RunnerBox.connect(opened.control, box_id, end)
        except BaseException:
            opened.control.close()
            os.close(opened.pidfd)
            raise
        held = Held(box, flavor, opened.pid, opened.pidfd)
        self._held[box_id] = held
        asyncio.get_running_loop().add_reader(held.pidfd, self._ended, held)
        return held

    async def _end(self, held: Held) -> None:
        """Kill process 1 and wait until the kernel has ended its whole namespace."""
        if not held.gone.is_set():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(held.pidfd, signal.SIGKILL)
            await held.gone.wait()

    def _ended(self, held: Held) -> None:
        asyncio.get_running_loop().remove_reader(held.pidfd)
        os.close(held.pidfd)
        self._held.pop(held.box.id, None)
        held.gone.set()

    def running(self) -> list[Running]:
        """List them."""
        return [Running(held.box.id, held.pid, held.flavor, held.is_taken) for held in self._held.values()]

    async def end_all(self) -> None:
        """End every one of them."""
        await asyncio.gather(*(held.box.close() for held in list(self._held.values())))
