"""Limits and quotas of tenants as a whole."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from sqlalchemy import Connection

from trainyard.core import errors
from trainyard.core.clock import Clock
from trainyard.core.db import Database
from trainyard.core.keys import bars, format
from trainyard.core.keys.authority import Authority
from trainyard.core.keys.bars import OwnLimits, OwnQuota
from trainyard.core.keys.live import LiveKeys
from trainyard.core.keys.store import keys as key_rows
from trainyard.core.keys.store import tenants as rows
from trainyard.core.keys.types import TenantRecord

Change = Callable[[TenantRecord], tuple[OwnLimits, OwnQuota]]


class TenantRegistry:
    """Shows and sets what all keys of a tenant may do together. A tenant exists when it has a key or a bar.

    In every method `by` is the administrator who asks; None = whoever owns the data directory.
    """

    def __init__(self, database: Database, clock: Clock, live: LiveKeys) -> None:
        """Keep the parts.

        Args:
            database: Holds the rows.
            clock: For the time of a change.
            live: Is told of every change.
        """
        self._database = database
        self._clock = clock
        self._live = live

    def page(self, limit: int, offset: int, *, by: Authority | None = None) -> tuple[list[TenantRecord], int]:
        """List the tenants that `by` sees, by name, and count all of them."""
        with self._database.read() as connection:
            everyone = self._everyone(connection)
        seen = [everyone[name] for name in sorted(everyone) if by is None or by.sees(name)]
        return seen[offset : offset + limit], len(seen)

    def show(self, name: str, *, by: Authority | None = None) -> TenantRecord:
        """Show one tenant.

        Raises:
            errors.NotFound: There is none of this name, or none that `by` sees.
        """
        with self._database.read() as connection:
            found = self._everyone(connection).get(name) if by is None or by.sees(name) else None
        if found is None:
            raise errors.NotFound(f"There is no tenant {name[:60]!r}; a list of the tenants has their names")
        return found

    def set(self, name: str, limits: OwnLimits, quota: OwnQuota, *, by: Authority | None = None) -> TenantRecord:
        """Set everything anew for a tenant, which need not have keys yet.

        Raises:
            errors.InvalidRequest: The name is unusable.
            errors.Forbidden: Code `operators_only`.
        """
        self._require_operator(name, by)
        return self._write(format.read_name(name, "tenant"), lambda _before: (limits, quota))

    def update(
        self,
        name: str,
        *,
        limits: Mapping[str, Any] | None,
        quota: Mapping[str, Any] | None,
        or_make: bool = False,
        by: Authority | None = None,
    ) -> TenantRecord:
        """Set what is named and leave the rest; an empty mapping leaves all, None sets all of it to null.

        Args:
            name: Of the tenant.
            limits: Names of `OwnLimits` and their new values.
            quota: Names of `OwnQuota` and their new values.
            or_make: The tenant need not be there yet.
            by: Who asks.

        Raises:
            errors.NotFound: There is no such tenant.
            errors.InvalidRequest: A value is unusable; `param` names it.
            errors.Forbidden: Code `operators_only`.
        """
        self._require_operator(name, by)
        if not or_make:
            self.show(name)
        return self._write(
            format.read_name(name, "tenant"),
            lambda before: (bars.patched(before.limits, limits, "limits"), bars.patched(before.quota, quota, "quota")),
        )

    def clear(self, name: str, *, by: Authority | None = None) -> TenantRecord:
        """Take every bar of a tenant away; its keys stay, and a second time changes nothing.

        Raises:
            errors.NotFound: There is no such tenant.
            errors.Forbidden: Code `operators_only`.
        """
        self._require_operator(name, by)
        before = self.show(name)
        with self._database.begin() as connection:
            rows.drop(connection, name)
        self._live.reload()
        return TenantRecord(name, key_count=before.key_count)

    def _write(self, name: str, change: Change) -> TenantRecord:
        with self._database.begin() as connection:
            key_rows.lock(connection)
            wishes, quota = change(rows.find(connection, name) or TenantRecord(name))
            limits = OwnLimits(**asdict(wishes.effective(None)))  # a tenant has no default to be freed from
            rows.put(connection, TenantRecord(name, limits, quota, self._clock.now()))
        self._live.reload()
        return self.show(name)

    def _require_operator(self, name: str, by: Authority | None) -> None:
        if by is None:
            return
        if not by.sees(name):
            raise errors.NotFound(f"There is no tenant {name[:60]!r}; a list of the tenants has their names")
        by.require_operator()

    def _everyone(self, connection: Connection) -> dict[str, TenantRecord]:
        with_bars = {record.name: record for record in rows.every(connection)}
        counts = key_rows.count_by_tenant(connection)
        names = with_bars.keys() | counts.keys()
        return {name: replace(with_bars.get(name, TenantRecord(name)), key_count=counts.get(name, 0)) for name in names}
