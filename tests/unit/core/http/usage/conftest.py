"""The routes of usage over real keys and a real ledger."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.contract.core.ledger.entries import entry
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.db.writer import GroupWriter
from trainyard.core.http import admin_usage, me_usage
from trainyard.core.http.application import HttpParts, build_http
from trainyard.core.keys import APIKeyManager, NewKey, OwnLimits, OwnQuota
from trainyard.core.ledger.reports import Reports
from trainyard.core.ledger.service import Ledger
from trainyard.core.settings import LimitSettings, Settings

START = 1_767_268_800.0
"""2026-01-01T12:00:00Z, a Thursday; 13:00 in Berlin."""


@dataclass
class Office:
    """A server with the routes of usage.

    Attributes:
        root: An operator.
        boss: Administrates `lab`; has a quota of 1000 tokens.
        ada: Generates in `lab`.
    """

    http: TestClient
    keys: APIKeyManager
    clock: FakeClock
    ledger: Ledger
    root: NewKey
    boss: NewKey
    ada: NewKey
    _made: int = 0

    def get(self, who: NewKey, path: str, **query: Any) -> Any:
        return self.http.get(path, params=query, headers={"Authorization": f"Bearer {who.key}"})

    def used(self, who: NewKey, **facts: Any) -> None:
        """Have a key use something."""
        self._made += 1
        of = {"tenant": who.record.tenant, "user": who.record.user, "key_id": who.record.id, "at": self.clock.now()}
        assert self.http.portal is not None
        self.http.portal.call(self.ledger.record, entry(f"{self._made}", **{**of, **facts}))


@pytest.fixture
def office(database: Database) -> Iterator[Office]:
    clock = FakeClock(START)
    defaults = LimitSettings(requests=100, time_zone="Europe/Berlin")
    keys = APIKeyManager(database, b"p" * 32, clock, defaults)
    writer = GroupWriter(f"sqlite:///{database.engine.url.database}")
    ledger, reports = Ledger(writer, database), Reports(database)
    routers = [
        admin_usage.router(keys, reports, clock),
        me_usage.router(keys, reports, ledger.spent, clock, defaults.window_s),
    ]
    app = build_http(
        Settings(), HttpParts(database, keys, clock=clock), routers=[(router, "native") for router in routers]
    )
    root = keys.create("root")
    boss = keys.create("boss", tenant="lab", scopes="admin,generate", quota=OwnQuota(tokens=1000, cost_micros=50))
    ada = keys.create("ada", tenant="lab", scopes="generate", limits=OwnLimits(tokens=500, concurrency=2))
    with TestClient(app, raise_server_exceptions=False) as http:
        yield Office(http, keys, clock, ledger, root, boss, ada)
        assert http.portal is not None
        http.portal.call(writer.aclose)
