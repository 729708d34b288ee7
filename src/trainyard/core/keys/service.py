"""The life cycle of keys."""

from collections.abc import Iterable
from dataclasses import asdict

from trainyard.core import errors, ids
from trainyard.core.clock import Clock
from trainyard.core.db import Database, epochs
from trainyard.core.keys import format, store
from trainyard.core.keys.live import LiveKeys, prove_pepper
from trainyard.core.keys.types import ALL, KeyRecord, NewKey
from trainyard.core.principal import Principal


class APIKeyManager:
    """Makes, checks, lists, rotates and revokes keys.

    All methods but `recognise` block on the database at times; `authenticate` only when `is_stale_for` the key.
    Changes through this object are seen at once, changes by other processes within a second.
    """

    def __init__(self, database: Database, pepper: bytes, clock: Clock) -> None:
        """Keep the parts; the database is not touched before the first use.

        Args:
            database: Migrated to revision 0001 or later.
            pepper: Secret bytes that are not in the database; see `derive_pepper`.
            clock: For creation, expiry and freshness.
        """
        self._database = database
        self._pepper = pepper
        self._clock = clock
        self._live = LiveKeys(database, pepper, clock)

    # ------------------------------------------------------------------ making

    def generate_key(
        self,
        user: str,
        description: str = "",
        *,
        tenant: str = "default",
        scopes: str | Iterable[str] = ALL,
        expires_at: float | None = None,
    ) -> str:
        """Make a key and return it; this is the only time that it is shown."""
        return self.create(user, description, tenant=tenant, scopes=scopes, expires_at=expires_at).key

    def create(
        self,
        user: str,
        description: str = "",
        *,
        tenant: str = "default",
        scopes: str | Iterable[str] = ALL,
        expires_at: float | None = None,
    ) -> NewKey:
        """Make a key.

        Args:
            user: Owner inside the tenant.
            description: For people, one line of at most 500 characters.
            tenant: The border of isolation.
            scopes: Names from `principal.SCOPES`, or `all`.
            expires_at: Unix time in seconds, in the future; None = never.

        Raises:
            errors.InvalidRequest: One of these is unusable; `param` names it.
            errors.StartupError: The database belongs to another pepper.
        """
        new = self._mint(user, description, tenant, format.read_scopes(scopes), expires_at)
        prove_pepper(self._database, self._pepper)
        with self._database.begin() as connection:
            store.insert(connection, new.record)
        self._live.reload()
        return new

    def create_first_admin(self, user: str = "admin", *, tenant: str = "default") -> NewKey | None:
        """Make a key of all scopes when no key was ever made here; None otherwise. One of many processes wins."""
        new = self._mint(user, "made at first start", tenant, frozenset(ALL), None)
        prove_pepper(self._database, self._pepper)
        with self._database.begin() as connection:
            epochs.raise_epoch(connection, store.EPOCH)  # on Postgres its row lock lets one process in at a time
            if store.count(connection) > 0:
                return None
            store.insert(connection, new.record)
        self._live.reload()
        return new

    # ------------------------------------------------------------------ checking

    def validate_key(self, key: str | None) -> Principal | None:
        """Tell whose key this is; None for everything that is not a valid key."""
        try:
            return self.authenticate(key)
        except errors.Unauthenticated:
            return None

    def authenticate(self, key: str | None) -> Principal:
        """Tell whose key this is, after bringing the snapshot up to date.

        Raises:
            errors.Unauthenticated: As `recognise`.
            errors.Unavailable: The database did not answer when the snapshot had to be renewed.
        """
        if self.is_stale_for(key):
            self.refresh()
        return self.recognise(key)

    def recognise(self, key: str | None) -> Principal:
        """Tell whose key this is by the snapshot alone; never blocks. `refresh` must have been called before.

        Raises:
            errors.Unauthenticated: As `LiveKeys.recognise`.
        """
        return self._live.recognise(key)

    def is_stale_for(self, key: str | None) -> bool:
        """Whether `authenticate` reads the database before it judges this key."""
        return self._live.is_stale_for(key)

    def refresh(self) -> None:
        """Bring the snapshot up to date and write times of last use when they are due."""
        self._live.refresh()

    def flush(self) -> None:
        """Write the times of last use that are only in memory; call it at shutdown."""
        self._live.flush()

    # ------------------------------------------------------------------ looking after

    def list_keys(self, user: str | None = None, tenant: str | None = None) -> list[dict[str, object]]:
        """List keys that are not revoked, oldest first, without anything that would help to guess one.

        Returns:
            Dicts with `id`, `prefix`, `tenant`, `user_id`, `description`, `scopes` (sorted list), `status` (`active` or
            `expired`), `created_at`, `expires_at`, `last_used`, `replaced_by`.
        """
        self.flush()
        with self._database.read() as connection:
            records = store.live(connection)
        return [
            self._listed(record)
            for record in records
            if user in (None, record.user) and tenant in (None, record.tenant)
        ]

    def revoke_key(self, key_or_id: str) -> bool:
        """End a key for good, given in full or by its id; False when there is no such live key."""
        text = format.canonical(key_or_id)
        digest = format.digest(text, self._pepper) if text else None
        with self._database.begin() as connection:
            record = store.find(connection, key_id=key_or_id, digest=digest)
            if record is None or record.revoked_at is not None:
                return False
            store.change(connection, record.id, revoked_at=self._clock.now())
        self._live.reload()
        return True

    def rotate_key(self, key_id: str, overlap_s: float = 0.0) -> NewKey:
        """Put a new key of the same owner and scopes in the place of one; both work for `overlap_s` seconds.

        The new key has no expiry of its own unless the old one had: then it keeps that moment.

        Raises:
            errors.NotFound: There is no such live key.
            errors.Conflict: It was rotated before (code `key_already_rotated`) or has expired (`key_expired`).
            errors.InvalidRequest: overlap_s is negative.
        """
        if not 0 <= overlap_s < float("inf"):
            raise errors.InvalidRequest("overlap_s must be a number of seconds, 0 or more", param="overlap_s")
        now = self._clock.now()
        with self._database.begin() as connection:
            old = self._rotatable(store.find(connection, key_id=key_id), key_id, now)
            new = self._mint(old.user, old.description, old.tenant, old.scopes, old.expires_at)
            end = now + overlap_s if old.expires_at is None else min(old.expires_at, now + overlap_s)
            store.change(connection, old.id, expires_at=end, replaced_by=new.record.id)
            store.insert(connection, new.record)
        self._live.reload()
        return new

    # ------------------------------------------------------------------ inside

    def _mint(
        self, user: str, description: str, tenant: str, scopes: frozenset[str], expires_at: float | None
    ) -> NewKey:
        now = self._clock.now()
        if expires_at is not None and not now < expires_at < float("inf"):
            raise errors.InvalidRequest("expires_at must be a Unix time in the future", param="expires_at")
        if len(description) > 500 or not description.isprintable():
            raise errors.InvalidRequest("description is one line of at most 500 characters", param="description")
        key = format.mint()
        record = KeyRecord(
            id=ids.new_id("key", self._clock),
            tenant=format.read_name(tenant, "tenant"),
            user=format.read_name(user, "user"),
            description=description,
            prefix=key[: format.PREFIX_CHARACTERS],
            digest=format.digest(key, self._pepper),
            scopes=scopes,
            created_at=now,
            expires_at=expires_at,
        )
        return NewKey(key, record)

    def _rotatable(self, record: KeyRecord | None, key_id: str, now: float) -> KeyRecord:
        if record is None or record.revoked_at is not None:
            raise errors.NotFound(f"There is no key {key_id!r}; `keys list` shows the ids", param="key_id")
        if record.replaced_by is not None:
            raise errors.Conflict(
                f"{key_id} was replaced by {record.replaced_by}; rotate that one", code="key_already_rotated"
            )
        if not record.is_valid(now):
            raise errors.Conflict(f"{key_id} has expired; create a new key", code="key_expired")
        return record

    def _load_keys(self) -> list[dict[str, object]]:
        """Show the stored rows as they are: digests and prefixes, never a key."""
        with self._database.read() as connection:
            return [asdict(record) for record in store.live(connection)]

    def _listed(self, record: KeyRecord) -> dict[str, object]:
        return {
            "id": record.id,
            "prefix": record.prefix,
            "tenant": record.tenant,
            "user_id": record.user,
            "description": record.description,
            "scopes": sorted(record.scopes),
            "status": "active" if record.is_valid(self._clock.now()) else "expired",
            "created_at": record.created_at,
            "expires_at": record.expires_at,
            "last_used": record.last_used_at,
            "replaced_by": record.replaced_by,
        }
