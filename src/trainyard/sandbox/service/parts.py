"""What all use cases of the sandbox share."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import structlog

from trainyard.core import errors
from trainyard.core.blobs import BlobStore
from trainyard.core.clock import Clock
from trainyard.core.db import Database
from trainyard.core.metering.base import Meter
from trainyard.core.principal import Principal
from trainyard.core.settings import SandboxLimits, SandboxSettings
from trainyard.sandbox.backends.base import Backend
from trainyard.sandbox.languages import Builds, Languages
from trainyard.sandbox.service.meters import SandboxMetrics
from trainyard.sandbox.store import FileStore, SessionStore, StateStore
from trainyard.sandbox.store.contents import Collector

_log = structlog.get_logger("sandbox")

Params = ParamSpec("Params")
Result = TypeVar("Result")


@dataclass(slots=True)
class Parts:
    """The parts of one service.

    Attributes:
        blobs: Holds the contents of the sandbox and nothing else: what no file and no state names is removed.
        languages: Those that run here; none before the service has started.
        builds: What compilers made before.
        holder: Names this process to the others.
        tasks: Work that goes on after the request that began it.
    """

    settings: SandboxSettings
    database: Database
    blobs: BlobStore
    backend: Backend
    builds: Builds
    meter: Meter
    clock: Clock
    metrics: SandboxMetrics
    holder: str
    languages: Languages = field(default_factory=lambda: Languages((), {}))
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    sessions: SessionStore = field(init=False)
    files: FileStore = field(init=False)
    states: StateStore = field(init=False)
    collector: Collector = field(init=False)

    def __post_init__(self) -> None:
        self.sessions, self.files = SessionStore(self.database), FileStore(self.database)
        self.states, self.collector = StateStore(self.database), Collector(self.database)

    @property
    def limits(self) -> SandboxLimits:
        """Bars of runs and sessions."""
        return self.settings.limits

    async def stored(
        self, function: Callable[Params, Result], /, *args: Params.args, **kwargs: Params.kwargs
    ) -> Result:
        """Run a method of a store in the database's threads."""
        return await self.database.call(function, *args, **kwargs)

    def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that nobody waits for; `aclose` of the service does."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            _log.error("background_work_failed", exc_info=fault)


def unknown_session() -> errors.NotFound:
    """Make the answer for a session that is unknown, has expired, or is somebody else's."""
    return errors.NotFound("There is no such session", code="session_not_found", param="session_id")


def unknown_file(named: str | None = None) -> errors.NotFound:
    """Make the answer for a file that is unknown or somebody else's.

    Args:
        named: As the caller named it.
    """
    message = "There is no such file" if named is None else f"There is no file {named}; upload it first"
    return errors.NotFound(message, code="file_not_found", param="files" if named else "file_id")


def is_owner(principal: Principal, tenant: str, owner: str) -> bool:
    """Whether what is owned by this user of this tenant is the caller's."""
    return (principal.tenant, principal.user) == (tenant, owner)
