"""Boxes that are ready before anyone asks: taken at once, made again when there is nothing better to do."""

import asyncio
import contextlib
from collections import deque
from typing import Final

import structlog

from trainyard.core import errors
from trainyard.core.clock import Clock
from trainyard.sandbox.backends.local.link import REFUSED, Link
from trainyard.sandbox.backends.local.ward import Held, Ward
from trainyard.sandbox.types.orders import Flavor

QUIET_S: Final = 0.02
"""Without a run for so long, the pool is filled as fast as it can be."""
CROWDED_S: Final = 0.1
"""While there are runs a box is made this often, so that the pool does not starve."""
_LOOK_S: Final = 0.005
_RETRY_S: Final = 0.5
_LOADING_S: Final = 30.0
_AT_ONCE: Final = 3
"""Boxes that are made at the same time: half of the 20 ms that one takes is waiting for control groups."""

_log = structlog.get_logger(__name__)


class Pool:
    """Keeps `size` boxes of one flavour.

    Args:
        limit: Of boxes in the ward; at the limit none is made.
        take_s: How long a caller waits for a box when none is ready.
    """

    def __init__(
        self, link: Link, ward: Ward, flavor: Flavor, size: int, limit: int, clock: Clock, take_s: float
    ) -> None:
        self._link, self._ward, self._flavor = link, ward, flavor
        self._size, self._limit, self._clock, self._take_s = size, limit, clock, take_s
        self._ready: deque[Held] = deque()
        self._callers: deque[asyncio.Future[Held]] = deque()
        self._making: set[asyncio.Task[None]] = set()
        self._wanted = asyncio.Event()
        self._filling: asyncio.Task[None] | None = None
        self._last_take = self._last_made = float("-inf")
        self._failure: errors.Unavailable | None = None
        self._loud_from = float("inf")

    @property
    def refusal(self) -> errors.Unavailable | None:
        """Why its zygote makes no boxes and never will; None as long as it may."""
        return self._failure if self._failure is not None and self._failure.code == REFUSED else None

    def start(self) -> None:
        """Begin to fill."""
        self._loud_from = self._clock.monotonic() + _LOADING_S
        self._wanted.set()
        self._filling = asyncio.create_task(self._fill(), name=f"fill the pool of {self._flavor} boxes")

    async def take(self) -> Held:
        """Give a box, one that is ready or the next that is made.

        Raises:
            errors.Unavailable: None was to be had in time; the message is that of the last attempt.
        """
        if self.refusal is not None:
            raise self.refusal
        self._last_take = self._clock.monotonic()
        self._wanted.set()
        while self._ready:
            held = self._ready.popleft()
            if held.is_alive:
                return held
        caller: asyncio.Future[Held] = asyncio.get_running_loop().create_future()
        self._callers.append(caller)
        taken: Held | None = None
        try:
            async with asyncio.timeout(self._take_s):
                taken = await caller
            return taken
        except TimeoutError:
            raise self._failure or errors.Unavailable(
                f"no box became free within {self._take_s:g} s", code="sandbox_unavailable", retry_after_s=self._take_s
            ) from None
        finally:
            self._forget(caller, taken)

    def _forget(self, caller: asyncio.Future[Held], taken: Held | None) -> None:
        """Forget a caller; a box that came at the moment in which he gave up is for the next."""
        with contextlib.suppress(ValueError):
            self._callers.remove(caller)
        if taken is None and caller.done() and not caller.cancelled():
            self._ready.append(caller.result())

    async def stop(self) -> None:
        """Make no more boxes, and wait for those that are being made; what is ready belongs to the ward."""
        if self._filling is not None:
            self._filling.cancel()
            await asyncio.wait([self._filling])
        if self._making:
            await asyncio.wait(self._making)

    # ----------------------------------------------------------------- filling
    async def _fill(self) -> None:
        while True:
            await self._wanted.wait()
            if not self._lacks_one:
                self._wanted.clear()
                continue
            if self._may_make():
                self._last_made = self._clock.monotonic()
                task = asyncio.create_task(self._make())
                self._making.add(task)
                task.add_done_callback(self._made)
            await asyncio.sleep(_LOOK_S)

    @property
    def _lacks_one(self) -> bool:
        self._forget_dead()
        return len(self._ready) + len(self._making) < self._size + len(self._callers)

    def _forget_dead(self) -> None:
        for held in [held for held in self._ready if not held.box.is_alive]:
            self._ready.remove(held)

    def _may_make(self) -> bool:
        """Whether now is the time: at once for a caller, else when no run is going on, or one in a while."""
        if len(self._making) >= _AT_ONCE or len(self._ward) + len(self._making) >= self._limit:
            return False
        now = self._clock.monotonic()
        if len(self._callers) > len(self._making):
            return True
        if self._ward.is_busy:
            self._last_take = now
        return now - self._last_take >= QUIET_S or now - self._last_made >= CROWDED_S

    async def _make(self) -> None:
        try:
            held = await self._ward.admit(self._link, self._flavor, is_warm=not self._callers)
        except errors.Unavailable as error:
            self._tell(error)
            self._failure = error
            await asyncio.sleep(_RETRY_S)
            return
        self._failure = None
        if not held.is_alive:
            self._failure = errors.Unavailable("a box has ended before anybody had it", code="sandbox_unavailable")
            await asyncio.sleep(_RETRY_S)
            return
        while self._callers:
            caller = self._callers.popleft()
            if not caller.done():
                caller.set_result(held)
                return
        self._ready.append(held)

    def _tell(self, error: errors.Unavailable) -> None:
        """Warn of a new failure, but not of a zygote that is still loading."""
        is_known = self._failure is not None and self._failure.message == error.message
        if not is_known and (error.code == REFUSED or self._clock.monotonic() >= self._loud_from):
            _log.warning("no box can be made", flavor=self._flavor, reason=error.message)

    def _made(self, task: asyncio.Task[None]) -> None:
        self._making.discard(task)
        self._wanted.set()
