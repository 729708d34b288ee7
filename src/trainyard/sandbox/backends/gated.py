"""A sandbox that is left out where the machine does not isolate well enough, while the rest of the server works."""

from collections.abc import Sequence

import structlog

from trainyard.core import errors
from trainyard.sandbox.backends.base import Backend, Box, Layer, Running
from trainyard.sandbox.types.orders import Flavor

_log = structlog.get_logger("sandbox")


class GatedBackend:
    """Passes everything on to a backend that could start; gives out no box of one that could not.

    Args:
        inner: The backend.

    Attributes:
        refusal: Why there are no boxes; None where there are.
    """

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.refusal: str | None = None

    @property
    def name(self) -> str:
        """As `sandbox.backend` has it."""
        return self._inner.name

    @property
    def is_elsewhere(self) -> bool:
        """As the backend says."""
        return self._inner.is_elsewhere

    async def start(self) -> None:
        """Begin to keep boxes ready, or remember why there will be none."""
        try:
            await self._inner.start()
        except errors.StartupError as error:
            self.refusal = error.message
            _log.warning("sandbox_left_out", reason=error.message)

    async def take(self, flavor: Flavor, tenant: str) -> Box:
        """Give a fresh box; raises errors.Unavailable (code `sandbox_too_weak`) where the machine is too weak."""
        if self.refusal is not None:
            raise errors.Unavailable(f"No code runs here: {self.refusal}", code="sandbox_too_weak")
        return await self._inner.take(flavor, tenant)

    async def ping(self) -> None:
        """Return when boxes can be had, or when it is settled that there are none."""
        if self.refusal is None:
            await self._inner.ping()

    def layers(self) -> Sequence[Layer]:
        """Tell what isolates its boxes here."""
        return self._inner.layers()

    def running(self) -> Sequence[Running]:
        """List its boxes, warm ones included."""
        return self._inner.running()

    async def aclose(self) -> None:
        """End every box."""
        await self._inner.aclose()
