"""A meter with the limiter of one process and a ledger in a file."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from trainyard.core.clock import FakeClock
from trainyard.core.db import Database
from trainyard.core.db.spool import Spool
from trainyard.core.db.writer import GroupWriter
from trainyard.core.ledger.report_types import Filter
from trainyard.core.ledger.reports import Reports
from trainyard.core.ledger.service import Ledger
from trainyard.core.ledger.types import Entry
from trainyard.core.limits.memory import MemoryLimiter
from trainyard.core.limits.types import Limits, Quota, Subject
from trainyard.core.metering.service import Metering
from trainyard.core.metering.types import Job, Prices
from trainyard.core.principal import Principal
from trainyard.core.telemetry import Metrics

WHO = Principal("lab", "ada", "key_a", frozenset({"generate"}))
PRICES = Prices(prompt=1_000_000, completion=2_000_000)
"""One micro per prompt token, two per completion token."""


def job(*, prompt: int = 10, most: int = 20, cached: bool = False) -> Job:
    return Job(
        route="/v1/generate",
        model="pocket",
        request_id="req_1",
        prompt_tokens=prompt,
        max_completion_tokens=most,
        prices=PRICES,
        cached=cached,
    )


@dataclass
class Yard:
    """What a test of the meter looks at."""

    database: Database
    clock: FakeClock
    writer: GroupWriter
    metrics: Metrics = field(default_factory=Metrics)
    limits: Limits = field(default_factory=Limits)
    quota: Quota = field(default_factory=Quota)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.writer, self.database)
        self.limiter = MemoryLimiter(self.ledger.spent, self.clock, window_s=60.0)
        self.meter = Metering(self.limiter, self.ledger, self.subjects, self.clock, self.metrics, window_s=60.0)

    def subjects(self, who: Principal) -> Sequence[Subject]:
        return (Subject(f"key:{who.key_id}", self.limits, self.quota), Subject(f"tenant:{who.tenant}"))

    async def entries(self) -> list[Entry]:
        return (await Reports(self.database).entries(Filter(since=0.0, until=4e9), max_rows=10_000)).entries

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
async def yard(database: Database, clock: FakeClock, tmp_path: Path) -> AsyncIterator[Yard]:
    writer = GroupWriter(str(database.engine.url), spool=Spool(tmp_path))
    made = Yard(database, clock, writer)
    yield made
    await made.meter.aclose()
    await writer.aclose()
