"""The routes over the real service, with boxes that are real runners without isolation; in process."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
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
from trainyard.sandbox.routes import code

LIMITS = {"timeout_s": 20, "file_bytes": 100_000, "files_per_request": 5, "code_bytes": 10_000}


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
        return {"X-API-Key": self.keys.create(user, tenant=tenant, scopes="execute", **fields).key}

    def peer(self, address: str, **headers: str) -> TestClient:
        """Make a client without credentials at some address."""
        made = TestClient(self.stranger.app, raise_server_exceptions=False, client=(address, 1), headers=headers)
        made.portal = self.stranger.portal
        return made

    def rows(self, *tables: str) -> dict[str, int]:
        """Count rows."""
        with self.database.read() as connection:
            return {
                table: connection.execute(text(f"select count(*) from sandbox_{table}")).scalar_one()  # noqa: S608
                for table in tables
            }


Open = Callable[..., AbstractContextManager[Yard]]


@pytest.fixture
def open_yard(database: Database, tmp_path: Path) -> Open:
    """Open a server with settings of its own."""

    @contextmanager
    def opened(limits: dict[str, Any] | None = None, **sections: Any) -> Iterator[Yard]:
        sandbox = {"warm": 0, "warm_science": 0, "limits": LIMITS, **sections.pop("sandbox", {})}
        settings = Settings.model_validate(
            {"data_dir": tmp_path, "sandbox": sandbox, "limits": limits or {}, **sections}
        )
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
            routers=[(router, "code") for router in code.routers(service)],
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

    return opened


@pytest.fixture
def yard(open_yard: Open) -> Iterator[Yard]:
    """A server with the usual settings."""
    with open_yard() as opened:
        yield opened
