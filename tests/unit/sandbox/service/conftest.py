"""A service over real runners without isolation, a database and blobs in memory."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from trainyard.core.blobs import Blob, MemoryBlobs
from trainyard.core.clock import Clock, SystemClock
from trainyard.core.db import Database
from trainyard.core.db.writer import GroupWriter
from trainyard.core.metering.fake import OpenMeter
from trainyard.core.principal import Principal
from trainyard.core.settings import SandboxLimits, SandboxSettings, ServerSettings, Settings
from trainyard.core.telemetry import Metrics
from trainyard.sandbox import opening
from trainyard.sandbox.backends.fake import FakeBackend
from trainyard.sandbox.languages import Reach
from trainyard.sandbox.service import SandboxService
from trainyard.sandbox.types.domain import Execute, Executed, Upload

ANNA = Principal("acme", "anna", "key_1", frozenset({"execute"}))
BERT = Principal("acme", "bert", "key_2", frozenset({"execute"}))
CARL = Principal("other", "anna", "key_3", frozenset({"execute"}))
ONLY_PYTHON = Reach(directories=())
"""Asking twelve toolchains for their versions takes a second."""

ADMIN = Principal("acme", "root", "key_4", frozenset({"execute", "admin"}))


@dataclass
class Server:
    """One HTTP process with its sandbox; several share a database and blobs.

    Attributes:
        service: The real one.
        meter: Lets everything in and remembers it.
    """

    service: SandboxService
    backend: FakeBackend
    meter: OpenMeter
    blobs: "FillingBlobs"
    numbers: list[int] = field(default_factory=list)

    async def run(self, code: str, who: Principal = ANNA, language: str = "py", **fields: object) -> Executed:
        """Run code."""
        self.numbers.append(len(self.numbers))
        request = Execute(code=code, language=language, **fields)  # type: ignore[arg-type]
        return await self.service.execute(who, request, request_id=f"req_{len(self.numbers)}")

    async def upload(self, who: Principal = ANNA, /, **files: str) -> tuple[str, dict[str, str]]:
        """Store files by name (`_` stands for a dot); returns the session and the ids."""
        session, done = await self.service.upload(who, uploads({n.replace("_", "."): t for n, t in files.items()}))
        assert session is not None
        return session, {one.path: one.file.id for one in done if one.file is not None}

    async def read(self, session: str, file: str, who: Principal = ANNA) -> bytes:
        """Read a stored file."""
        _, content = await self.service.open_file(who, session, file)
        return b"".join([piece async for piece in content])


async def uploads(files: dict[str, str]) -> AsyncIterator[Upload]:
    """Make what an upload gives."""
    for path, text in files.items():
        yield Upload(path=path, content=_content(text.encode()))


async def _content(raw: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(raw), 1000):
        yield raw[start : start + 1000]


class FillingBlobs(MemoryBlobs):
    """A store whose disk is full when the test says so; counts what it has refused.

    Attributes:
        put: How many contents it has taken.
        is_asked: Whether anything was to be stored yet.
        may_go_on: Storing waits until it is set; at the begin it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.is_full, self.refused, self.put = False, 0, 0
        self.is_asked, self.may_go_on = asyncio.Event(), asyncio.Event()
        self.may_go_on.set()

    async def put_stream(self, pieces: AsyncIterator[bytes]) -> Blob:
        """Store, or fail as a directory does."""
        self.is_asked.set()
        await self.may_go_on.wait()
        if self.is_full:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.put += 1
        return await super().put_stream(pieces)


Make = Callable[..., Server]


@pytest.fixture
async def writer(database: Database) -> AsyncIterator[GroupWriter]:
    """Writes what comes with charges."""
    opened = GroupWriter(database.engine.url.render_as_string(hide_password=False))
    await opened.start()
    yield opened
    await opened.aclose()


@pytest.fixture
async def make(database: Database, writer: GroupWriter, tmp_path: Path) -> AsyncIterator[Make]:
    """Make a server; `limits` and other fields of the settings may be given. All of them are closed at the end."""
    blobs, made = FillingBlobs(), list[Server]()

    def _make(
        *,
        limits: SandboxLimits | None = None,
        drain_s: float = 30.0,
        reach: Reach = ONLY_PYTHON,
        clock: Clock | None = None,
        backend: FakeBackend | None = None,
        **fields: object,
    ) -> Server:
        chosen = {"limits": limits or SandboxLimits(), "checkpoint_s": 0.05, "warm": 0, "warm_science": 0} | fields
        sandbox = SandboxSettings.model_validate(chosen)
        settings = Settings(data_dir=tmp_path, sandbox=sandbox, server=ServerSettings(drain_s=drain_s))
        backend, meter = backend or FakeBackend(), OpenMeter(writer)
        time = clock or SystemClock()
        service = opening.service(settings, database, blobs, backend, meter, time, Metrics(), reach=reach)
        made.append(Server(service, backend, meter, blobs))
        return made[-1]

    yield _make
    for server in made:
        await server.service.aclose()


@pytest.fixture
async def server(make: Make) -> Server:
    """A server that runs."""
    made = make()
    await made.service.start()
    return made
