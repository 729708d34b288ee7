"""The routes over the real service, with boxes that are real runners without isolation; in process."""

import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import text
from starlette.testclient import TestClient

from trainyard.core.blobs import MemoryBlobs
from trainyard.core.clock import SystemClock
from trainyard.core.db import Database
from trainyard.core.http.application import HttpParts, build_http
from trainyard.core.keys import APIKeyManager
from trainyard.core.metering.accounts import Accounts
from trainyard.core.settings import Settings
from trainyard.sandbox import opening
from trainyard.sandbox.backends.fake import FakeBackend
from trainyard.sandbox.routes import administration, code

LIMITS = {"timeout_s": 20, "file_bytes": 100_000, "files_per_request": 5, "files_per_batch": 5, "code_bytes": 10_000}


@dataclass
class Yard:
    """One server.

    Attributes:
        client: Has Anna's key.
        stranger: Has none.
        blobs: Where contents lie.
    """

    client: TestClient
    stranger: TestClient
    keys: APIKeyManager
    blobs: MemoryBlobs
    database: Database

    def headers(self, user: str, tenant: str = "acme", **fields: Any) -> dict[str, str]:
        """Make a key for somebody."""
        return {"X-API-Key": self.keys.create(user, tenant=tenant, **{"scopes": "execute", **fields}).key}

    def peer(self, address: str, **headers: str) -> TestClient:
        """Make a client without credentials at some address."""
        made = TestClient(self.stranger.app, raise_server_exceptions=False, client=(address, 1), headers=headers)
        made.portal = self.stranger.portal
        return made

    def stored(self) -> dict[str, int]:
        """Count what lies in the blob store and in the database, in the order in which contents are removed."""
        contents = self._call(self._contents)
        with self.database.read() as connection:
            counts = {
                table: int(connection.execute(text(f"select count(*) from sandbox_{table}")).scalar_one())  # noqa: S608
                for table in ("sessions", "files", "states", "blobs", "doomed")
            }
        return counts | {"contents": contents}

    def becomes(self, stored: dict[str, int]) -> None:
        """Wait until no more is stored; contents are removed after the answer is out."""
        deadline_s = time.monotonic() + 10
        while (now := self.stored()) != stored and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert now == stored

    async def _contents(self) -> int:
        return len([blob async for blob in self.blobs.stored(min_age_s=0)])

    def _call(self, function: Callable[[], Awaitable[int]]) -> int:
        assert self.stranger.portal is not None
        return self.stranger.portal.call(function)


Open = Callable[..., AbstractContextManager[Yard]]


@contextmanager
def _opened(
    database: Database, directory: Path, limits: dict[str, Any] | None = None, **sections: Any
) -> Iterator[Yard]:
    sandbox = {"warm": 0, "warm_science": 0, "limits": LIMITS, **sections.pop("sandbox", {})}
    settings = Settings.model_validate({"data_dir": directory, "sandbox": sandbox, "limits": limits or {}, **sections})
    clock, blobs = SystemClock(), MemoryBlobs()
    parts = HttpParts(database, APIKeyManager(database, b"p" * 32, clock, limits=settings.limits), clock=clock)
    accounts = Accounts.open(settings, database, parts.keys.subjects, clock, parts.metrics)
    service = opening.service(
        settings, database, blobs, FakeBackend(), accounts.metering, clock, parts.metrics, collects=False
    )

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await accounts.start()
        await service.start()
        yield
        await service.aclose()
        await accounts.aclose()

    app = build_http(
        settings,
        parts,
        routers=[
            *((router, "code") for router in code.routers(service)),
            (administration.router(service), "native"),
        ],
        hot_routes=code.hot_routes(service),
        code_paths=code.PATHS,
        body_bars=code.body_bars(settings.sandbox.limits),
        lifespan=lifespan,
    )
    key = parts.keys.create("anna", tenant="acme", scopes="execute").key
    with TestClient(app, raise_server_exceptions=False) as stranger:
        client = TestClient(app, raise_server_exceptions=False, headers={"X-API-Key": key})
        client.portal = stranger.portal  # the same loop
        yield Yard(client, stranger, parts.keys, blobs, database)


@pytest.fixture
def open_yard(database: Database, tmp_path: Path) -> Open:
    """Open a server with settings of its own, and with nothing in it."""
    return partial(_opened, database, tmp_path)


@pytest.fixture(scope="module")
def yard(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    """A server with the usual settings, for all tests of a module."""
    directory = tmp_path_factory.mktemp("yard")
    database = Database(f"sqlite:///{shutil.copy(migrated_file, directory / 'trainyard.db')}")
    with _opened(database, directory) as opened:
        yield opened
    database.close()
