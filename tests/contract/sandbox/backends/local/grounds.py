"""A local backend over zygotes of its own, under a supervisor as a server has one."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services import require
from trainyard.cli import zygotes
from trainyard.core import errors
from trainyard.core.datadir import make_socket_directory
from trainyard.core.processes import ChildStatus, Supervisor
from trainyard.core.settings import SandboxSettings, Settings
from trainyard.sandbox.backends.local import LocalBackend


@dataclass
class Grounds:
    """A backend with what it stands on."""

    backend: LocalBackend
    supervisor: Supervisor
    settings: Settings
    sockets: Path
    home: Path

    def zygote(self) -> ChildStatus:
        return self.supervisor.status()[0]


@asynccontextmanager
async def grounds(home: Path, settings: Settings | None = None, take_s: float = 10.0) -> AsyncIterator[Grounds]:
    """Start zygotes and a backend; skips the test where this machine does not isolate."""
    settings = settings or Settings(data_dir=home / "data", sandbox=SandboxSettings(warm=2))
    sockets = make_socket_directory()
    supervisor = Supervisor()
    backend = LocalBackend(settings.sandbox, sockets, has_packages=False, take_s=take_s)
    try:
        for spec in zygotes.specs(settings, sockets, lambda name: home / f"{name.replace(':', '-')}.log"):
            supervisor.add(spec)
            await supervisor.ensure(spec.name)
        try:
            await backend.start()
        except errors.StartupError as error:
            require.missing("isolation for the sandbox", error.message)
        yield Grounds(backend, supervisor, settings, sockets, home)
    finally:
        await backend.aclose()
        await supervisor.stop_all()
        shutil.rmtree(sockets, ignore_errors=True)
