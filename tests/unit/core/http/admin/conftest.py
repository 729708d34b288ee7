from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.unit.core.http.admin.yard import Office
from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.http import admin_keys, admin_tenants
from trainyard.core.http.application import HttpParts, build_http
from trainyard.core.keys import APIKeyManager, OwnLimits, OwnQuota
from trainyard.core.settings import LimitSettings, Settings


@pytest.fixture
def office(database: Database, clock: FakeClock) -> Iterator[Office]:
    keys = APIKeyManager(database, b"p" * 32, clock, LimitSettings(requests=100, time_zone="Europe/Berlin"))
    routers = [(made.router(keys, database), "native") for made in (admin_keys, admin_tenants)]
    app = build_http(Settings(), HttpParts(database, keys, clock=clock), routers=routers)  # type: ignore[arg-type]
    root = keys.create("root")
    clock.advance(1)
    boss = keys.create(
        "boss", tenant="lab", scopes="admin,generate", limits=OwnLimits(requests=60), quota=OwnQuota(tokens=1000)
    )
    clock.advance(1)
    ada = keys.create("ada", "laptop", tenant="lab", scopes="generate")
    with TestClient(app, raise_server_exceptions=False) as http:
        yield Office(http, keys, clock, root, boss, ada)
