"""The keys and tenants in memory, so that a request costs no query."""

import hmac
from collections.abc import Iterable, Mapping

from trainyard.core.keys import format
from trainyard.core.keys.bars import NO_LIMITS, NO_QUOTA
from trainyard.core.keys.types import KeyRecord, TenantRecord
from trainyard.core.limits.types import Subject
from trainyard.core.principal import Principal
from trainyard.core.settings import LimitSettings

_NOBODY = "0" * 64


class Snapshot:
    """The live keys and the tenants at one version of the epoch; never changed, only replaced."""

    def __init__(
        self,
        version: int,
        records: Iterable[KeyRecord],
        tenants: Iterable[TenantRecord] = (),
        defaults: LimitSettings | None = None,
    ) -> None:
        """Index what was read.

        Args:
            version: Of the epoch.
            records: Oldest first.
            tenants: Those that have limits or a quota.
            defaults: For keys whose values are null.
        """
        self.version = version
        self._records = list(records)
        self._tenants = {tenant.name: tenant for tenant in tenants}
        self._defaults = defaults or LimitSettings()
        self._by_id = {record.id: record for record in self._records}
        self._newest = {record.account_id: record for record in self._records}
        self._principals: dict[str, Principal] = {}
        self._subjects: dict[str, tuple[Subject, ...]] = {}
        self._proven: dict[str, tuple[KeyRecord, Principal]] = {}
        by_prefix: dict[str, list[KeyRecord]] = {}
        for record in self._records:
            by_prefix.setdefault(record.prefix, []).append(record)
        self._by_prefix: Mapping[str, list[KeyRecord]] = by_prefix

    def with_defaults(self, defaults: LimitSettings) -> "Snapshot":
        """Copy with other defaults."""
        return Snapshot(self.version, self._records, self._tenants.values(), defaults)

    def find(self, key: str, pepper: bytes) -> KeyRecord | None:
        """Find the record of a canonical key.

        The prefix, which is shown in lists anyway, selects; the rest is compared in constant time, once too when
        nothing has that prefix.
        """
        found = None
        digest = format.digest(key, pepper)
        candidates = self._by_prefix.get(key[: format.PREFIX_CHARACTERS], ())
        for record in candidates:
            if hmac.compare_digest(record.digest, digest):
                found = record
        if not candidates:
            hmac.compare_digest(_NOBODY, digest)
        return found

    def proven(self, key: str) -> tuple[KeyRecord, Principal] | None:
        """Find a key that `prove` has noted, without hashing it.

        Its timing tells nothing: only a whole key is found.
        """
        return self._proven.get(key)

    def prove(self, key: str, record: KeyRecord) -> Principal:
        """Note whose key a text is, once `find` has told; as many as there are live keys at most, in each spelling."""
        principal = self.principal(record)
        self._proven[key] = record, principal
        return principal

    def principal(self, record: KeyRecord) -> Principal:
        """Tell who acts with a key; one object per key."""
        found = self._principals.get(record.id)
        if found is None:
            found = self._principals[record.id] = record.principal()
        return found

    def record(self, key_id: str) -> KeyRecord | None:
        """Find a live key by its id."""
        return self._by_id.get(key_id)

    def subjects(self, key_id: str) -> tuple[Subject, ...] | None:
        """Tell for whom the work of a key is limited: its account, then its tenant; None when it is not live.

        Keys of one account, which a rotation lets overlap, share what is set for the newest of them.
        """
        found = self._subjects.get(key_id)
        if found is None and (record := self._by_id.get(key_id)) is not None:
            found = self._subjects[key_id] = (self._of_account(record.account_id), self._of_tenant(record.tenant))
        return found

    def subjects_of_guest(self, guest: Principal) -> tuple[Subject, ...]:
        """Tell for whom the work of a caller without a key is limited: the user by the defaults, then the tenant."""
        own = NO_LIMITS.effective(self._defaults), NO_QUOTA.effective(self._defaults)
        return Subject(f"key:{guest.key_id}", *own), self._of_tenant(guest.tenant)

    def _of_account(self, account_id: str) -> Subject:
        newest = self._newest[account_id]
        limits, quota = newest.limits.effective(self._defaults), newest.quota.effective(self._defaults)
        return Subject(f"key:{account_id}", limits, quota)

    def _of_tenant(self, name: str) -> Subject:
        tenant = self._tenants.get(name) or TenantRecord(name)
        return Subject(f"tenant:{name}", tenant.limits.effective(None), tenant.quota.effective(self._defaults))
