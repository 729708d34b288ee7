"""What a key is, without the key; what a tenant is beside its keys."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import UNSET, UnsetType

from trainyard.core.keys.bars import NO_LIMITS, NO_QUOTA, OwnLimits, OwnQuota
from trainyard.core.principal import SCOPES, Principal

ALL: tuple[str, ...] = SCOPES
"""Every scope; what a key gets when nothing else is said."""

STATIC_ID = "static_"
"""How the ids of keys of the settings begin; the others begin with `key_`."""

OPERATORS = "default"
"""The tenant whose administrators look after the whole server: the one in which the first key is made."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One stored key. Times are Unix seconds.

    Attributes:
        id: `key_…`.
        prefix: The first 11 characters of the key, for people to recognise it.
        digest: HMAC-SHA-256 of the key under the pepper, 64 hex digits.
        expires_at: From this moment on the key is refused; None = never.
        last_used_at: Written at most every 30 s and at shutdown; None = never used.
        replaced_by: Id of the key that a rotation put in its place.
        account: Id of the first key of its chain of rotations, under whose name consumption is counted; None = itself.
        limits: As set for this key.
        quota: As set for this key.
    """

    id: str
    tenant: str
    user: str
    description: str
    prefix: str
    digest: str
    scopes: frozenset[str]
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    replaced_by: str | None = None
    account: str | None = None
    limits: OwnLimits = NO_LIMITS
    quota: OwnQuota = NO_QUOTA

    @property
    def account_id(self) -> str:
        """Id of the first key of its chain of rotations."""
        return self.account or self.id

    def is_valid(self, now: float) -> bool:
        """Whether the key is accepted at this Unix time."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def status(self, now: float) -> str:
        """Name its state: `active`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.is_valid(now) else "expired"

    @property
    def source(self) -> str:
        """Where it stands: `stored` in the database, or `static` in the settings, where alone it can be changed."""
        return "static" if self.id.startswith(STATIC_ID) else "stored"

    def principal(self) -> Principal:
        """Who acts when this key is shown."""
        return Principal(tenant=self.tenant, user=self.user, key_id=self.id, scopes=self.scopes)


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key at the only moment at which it is known in full."""

    key: str
    record: KeyRecord

    def __repr__(self) -> str:
        return f"NewKey({self.record.prefix}…, {self.record.id})"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPatch:
    """What is to be changed of a key; what is `UNSET` stays.

    Attributes:
        expires_at: None = never.
        limits: Names of `OwnLimits` and their new values; a value of None means the server's default again, None in
            place of the mapping sets all of them so.
        quota: The same for `OwnQuota`.
    """

    description: str | UnsetType = UNSET
    scopes: str | Iterable[str] | UnsetType = UNSET
    expires_at: float | UnsetType | None = UNSET
    limits: Mapping[str, Any] | UnsetType | None = UNSET
    quota: Mapping[str, Any] | UnsetType | None = UNSET


@dataclass(frozen=True, slots=True)
class TenantRecord:
    """Limits and quota of a tenant as a whole, over all of its keys.

    Attributes:
        updated_at: When they were set, Unix seconds; None = they never were.
        key_count: Keys of the tenant that are not revoked; counted where tenants are listed or shown, else 0.
    """

    name: str
    limits: OwnLimits = NO_LIMITS
    quota: OwnQuota = NO_QUOTA
    updated_at: float | None = None
    key_count: int = 0
