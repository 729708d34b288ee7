"""Opening the sandbox as the settings have it."""

from pathlib import Path

from trainyard.core.blobs import BlobStore
from trainyard.core.clock import Clock
from trainyard.core.datadir import DataDirectory
from trainyard.core.db import Database
from trainyard.core.metering.base import Meter
from trainyard.core.settings import Settings
from trainyard.core.telemetry import Metrics
from trainyard.sandbox import packages
from trainyard.sandbox.backends.base import Backend
from trainyard.sandbox.backends.gated import GatedBackend
from trainyard.sandbox.backends.local.backend import LocalBackend
from trainyard.sandbox.languages import Builds, Languages, Reach
from trainyard.sandbox.service import SandboxService
from trainyard.sandbox.service.holding import name_of_this_process
from trainyard.sandbox.service.meters import SandboxMetrics
from trainyard.sandbox.service.parts import Parts


def backend(settings: Settings, sockets: Path, clock: Clock) -> Backend:
    """Choose what isolates; `start` has to follow.

    Args:
        settings: All of them.
        sockets: Directory where the zygotes of this server listen.
        clock: Time.
    """
    chosen: Backend
    if settings.sandbox.backend == "kubernetes":
        from trainyard.sandbox.backends.kubernetes.backend import KubernetesBackend

        chosen = KubernetesBackend(settings.sandbox)
    else:
        has_packages = packages.find(settings) is not None
        chosen = LocalBackend(settings.sandbox, sockets, has_packages=has_packages, clock=clock)
    return GatedBackend(chosen) if settings.sandbox.enabled == "auto" else chosen


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
    name: str | None = None,
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
        name: By which other processes of this machine reach this one.
    """
    sandbox = settings.sandbox
    seen = reach or Reach(packages=packages.find(settings))
    parts = Parts(
        sandbox,
        database,
        blobs,
        backend,
        Builds(DataDirectory(settings.data_dir).path / "sandbox" / "builds", sandbox.builds_bytes),
        meter,
        clock,
        SandboxMetrics(metrics),
        name_of_this_process(name),
    )

    async def discover() -> Languages:
        return await Languages.discover(seen, sandbox.limits.memory_bytes)

    return SandboxService(parts, discover, drain_s=settings.server.drain_s, collects=collects)
