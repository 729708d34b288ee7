"""Opening the sandbox as the settings have it."""

from trainyard.core.blobs import BlobStore
from trainyard.core.clock import Clock
from trainyard.core.datadir import DataDirectory
from trainyard.core.db import Database
from trainyard.core.metering.base import Meter
from trainyard.core.settings import Settings
from trainyard.core.telemetry import Metrics
from trainyard.sandbox.backends.base import Backend
from trainyard.sandbox.languages import Builds, Languages, Reach
from trainyard.sandbox.service import SandboxService
from trainyard.sandbox.service.holding import name_of_this_process
from trainyard.sandbox.service.meters import SandboxMetrics
from trainyard.sandbox.service.parts import Parts


def service(
    settings: Settings,
    database: Database,
    blobs: BlobStore,
    backend: Backend,
    meter: Meter,
    clock: Clock,
    metrics: Metrics,
    *,
    reach: Reach | None = None,
    collects: bool = True,
) -> SandboxService:
    """Plug the sandbox together; `start` has to follow.

    Args:
        settings: All of them; the data directory keeps what compilers make.
        database: Migrated to revision 0008 or later.
        blobs: A store that only the sandbox uses: what none of its files and states names is removed from it.
        backend: Gives out boxes.
        meter: Lets requests in.
        clock: Time.
        metrics: Of the server.
        reach: What of this machine boxes can see; None = what the settings say.
        collects: Whether this process removes what is over; the first of several does.
    """
    sandbox = settings.sandbox
    seen = reach or Reach(packages=sandbox.packages)
    parts = Parts(
        sandbox,
        database,
        blobs,
        backend,
        Builds(DataDirectory(settings.data_dir).path / "sandbox" / "builds", sandbox.builds_bytes),
        meter,
        clock,
        SandboxMetrics(metrics),
        name_of_this_process(),
    )

    async def discover() -> Languages:
        return await Languages.discover(seen, sandbox.limits.memory_bytes)

    return SandboxService(parts, discover, drain_s=settings.server.drain_s, collects=collects)
