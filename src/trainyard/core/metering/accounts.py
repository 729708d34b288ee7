"""Everything that counts and writes down who used how much, opened from the settings and closed in the right order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from trainyard.core.clock import Clock
from trainyard.core.datadir import DataDirectory
from trainyard.core.db import Database
from trainyard.core.db.spool import Spool
from trainyard.core.db.writer import GroupWriter
from trainyard.core.ledger.service import Ledger
from trainyard.core.limits import Limiter, Subject, open_limiter
from trainyard.core.metering.service import Metering
from trainyard.core.principal import Principal
from trainyard.core.settings import Settings
from trainyard.core.telemetry import Metrics


@dataclass(frozen=True, slots=True)
class Accounts:
    """The parts of one server.

    Attributes:
        metering: What services see.
    """

    writer: GroupWriter
    ledger: Ledger
    limiter: Limiter
    metering: Metering

    @classmethod
    def open(
        cls,
        settings: Settings,
        database: Database,
        subjects: Callable[[Principal], Sequence[Subject]],
        clock: Clock,
        metrics: Metrics,
    ) -> Self:
        """Open them; `start` has to follow.

        Raises:
            errors.ConfigError: The settings name a Redis that cannot be used.
        """
        spool = Spool(DataDirectory(settings.data_dir).path, sync=settings.database.sync == "full")
        writer = GroupWriter(settings.database_url, sync=settings.database.sync, spool=spool)
        ledger = Ledger(writer, database)
        metrics.gauge(
            "trainyard_ledger_spooled_entries", "Entries that wait in a file for the database"
        ).of().set_function(lambda: ledger.spooled)
        metrics.gauge("trainyard_ledger_waiting", "Lists of writes that wait for their commit").of().set_function(
            lambda: writer.waiting
        )
        limiter = open_limiter(settings, ledger.spent, clock)
        metering = Metering(limiter, ledger, subjects, clock, metrics, window_s=settings.limits.window_s)
        return cls(writer, ledger, limiter, metering)

    async def start(self) -> None:
        """Begin to write, first of all what a process that died has left."""
        await self.writer.start()

    async def aclose(self) -> None:
        """Write what waits, and end; after the last request."""
        await self.metering.aclose()
        await self.writer.aclose()
        await self.limiter.aclose()
