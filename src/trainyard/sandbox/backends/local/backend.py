"""The backend of one machine: pools over zygotes."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from trainyard.core import errors
from trainyard.core.clock import Clock, SystemClock
from trainyard.core.settings import SandboxSettings
from trainyard.sandbox.backends.base import Layer, Running
from trainyard.sandbox.backends.box import RunnerBox
from trainyard.sandbox.backends.local import places
from trainyard.sandbox.backends.local.link import Link
from trainyard.sandbox.backends.local.pool import Pool
from trainyard.sandbox.backends.local.ward import Ward
from trainyard.sandbox.types.orders import Flavor

_START_S: Final = 20.0
"""How long the zygotes get to come up; later the pools find them, and they are asked for their layers again."""
_LOOK_S: Final = 0.05
_AGAIN_S: Final = 0.5
TAKE_S: Final = 10.0


class LocalBackend:
    """Implements `Backend` with namespaces of this machine, made by our own zygotes or by bubblewrap in theirs.

    Args:
        settings: `backend` of them is its name.
        sockets: Directory where the zygotes listen.
        has_packages: Whether there is a science zygote; without it science boxes are lean ones.
        take_s: How long `take` waits for a box when none is ready.
        start_s: How long `start` waits for the zygotes.
    """

    is_elsewhere = False

    def __init__(
        self,
        settings: SandboxSettings,
        sockets: Path,
        *,
        has_packages: bool,
        take_s: float = TAKE_S,
        start_s: float = _START_S,
        clock: Clock | None = None,
    ) -> None:
        self.name = settings.backend
        self._settings, self._start_s = settings, start_s
        self._ward = Ward()
        clock = clock or SystemClock()
        sizes: dict[Flavor, int] = {"lean": settings.warm}
        if has_packages:
            sizes["science"] = settings.warm_science
        self._links: dict[Flavor, Link] = {flavor: Link(places.socket_of(sockets, flavor)) for flavor in sizes}
        self._pools: dict[Flavor, Pool] = {
            flavor: Pool(self._links[flavor], self._ward, flavor, size, settings.max_boxes, clock, take_s)
            for flavor, size in sizes.items()
        }
        self._layers: list[Layer] = []
        self._asking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to keep boxes ready.

        Raises:
            errors.StartupError: A layer that is required does not hold here, and `sandbox.allow_weaker` is not set; or
                no zygote has answered and `sandbox.enabled` is true.
        """
        try:
            self._layers = await self._first_answer()
        except errors.Unavailable as error:
            if self._settings.enabled is True:
                raise errors.StartupError(
                    f"the sandbox did not come up within {self._start_s:g} s: {error.message}. The log of its zygote "
                    "tells more; sandbox.enabled: auto starts without it, and has it when it comes",
                    code="sandbox_not_there",
                    param="sandbox.enabled",
                ) from error
            self._asking = asyncio.create_task(self._ask_on(), name="ask the zygote for its layers")
        missing = [layer for layer in self._layers if layer.is_required and not layer.is_held]
        if missing and not self._settings.allow_weaker:
            faults = "; ".join(f"{layer.name}: {layer.detail}" for layer in missing)
            raise errors.StartupError(
                f"this machine does not isolate code well enough: {faults}. `trainyard doctor` shows every layer; "
                "sandbox.allow_weaker starts anyway, sandbox.enabled: false leaves the sandbox out",
                code="sandbox_too_weak",
                param="sandbox.allow_weaker",
            )
        for pool in self._pools.values():
            pool.start()

    async def _first_answer(self) -> list[Layer]:
        """Ask the lean zygote, which may be starting; raises errors.Unavailable when it does not come up."""
        deadline = asyncio.get_running_loop().time() + self._start_s
        while True:
            try:
                return await self._links["lean"].layers()
            except errors.Unavailable:
                if asyncio.get_running_loop().time() > deadline:
                    raise
                await asyncio.sleep(_LOOK_S)

    async def _ask_on(self) -> None:
        """Ask until it tells; whether it makes boxes then, it decides as `start` would."""
        while not self._layers:
            await asyncio.sleep(_AGAIN_S)
            with contextlib.suppress(errors.Unavailable):
                self._layers = await self._links["lean"].layers()

    async def take(self, flavor: Flavor, tenant: str) -> RunnerBox:
        """Give a fresh box; whose it is does not matter, since none is used twice."""
        pool = self._pools.get(flavor)
        held = await (self._pools["lean"] if pool is None or pool.refusal else pool).take()
        held.is_taken = True
        return held.box

    async def ping(self) -> None:
        """Return when a zygote answers and makes boxes."""
        await self._links["lean"].ping()

    def layers(self) -> Sequence[Layer]:
        """Tell what isolates its boxes here."""
        return self._layers

    def running(self) -> Sequence[Running]:
        """List its boxes, warm ones included."""
        return self._ward.running()

    async def aclose(self) -> None:
        """End every box."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        for pool in self._pools.values():
            await pool.stop()
        await self._ward.end_all()
