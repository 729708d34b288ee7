"""What a key is, without the key."""

from dataclasses import dataclass

from trainyard.core.principal import SCOPES, Principal

ALL: tuple[str, ...] = SCOPES
"""Every scope; what a key gets when nothing else is said."""


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

    def is_valid(self, now: float) -> bool:
        """Whether the key is accepted at this Unix time."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

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
