"""The keys of a server: checking, changing, looking after."""

from dataclasses import asdict, replace

from trainyard.core import errors
from trainyard.core.clock import Clock
from trainyard.core.db import Database
from trainyard.core.keys import listing
from trainyard.core.keys.authority import Authority
from trainyard.core.keys.changes import KeyChanges
from trainyard.core.keys.live import LiveKeys
from trainyard.core.keys.static import StaticKeys
from trainyard.core.keys.store import keys as rows
from trainyard.core.keys.store.keys import Which
from trainyard.core.keys.tenants import TenantRegistry
from trainyard.core.keys.types import KeyRecord, TenantRecord
from trainyard.core.principal import Principal
from trainyard.core.settings import LimitSettings


class APIKeyManager(KeyChanges):
    """Makes, checks, lists, changes, rotates and revokes keys.

    All methods but those that recognise, `subjects` and `authority` block on the database at times; `authenticate` only
    when `is_stale_for` the key. Changes through this object are seen at once, changes by other processes within a
    second.

    Attributes:
        tenants: Limits and quotas of tenants as a whole.
        recognise_fresh: Does as `recognise` at a tenth of its cost when nothing has to be read before; None when
            `refresh` has to be called. As `LiveKeys.recognise_fresh`.
        subjects: Tells for whom the work of a key is limited: (`key:<account>`, `tenant:<name>`). The account is the id
            of the first key of a chain of rotations, so that a rotation resets nothing. As `LiveKeys.subjects`.
    """

    def __init__(
        self,
        database: Database,
        pepper: bytes,
        clock: Clock,
        limits: LimitSettings | None = None,
        *,
        static_keys: str | None = None,
    ) -> None:
        """Keep the parts; the database is not touched before the first use.

        Args:
            database: Migrated to revision 0003 or later.
            pepper: Secret bytes that are not in the database; see `derive_pepper`.
            clock: For creation, expiry and freshness.
            limits: Of keys that have none of their own; no bars when left out.
            static_keys: Keys that are in no database; see `static.StaticKeys.read`.

        Raises:
            errors.ConfigError: The time zone of the limits does not exist, or the static keys cannot be understood.
        """
        self._static = StaticKeys.read(static_keys, pepper, clock.now())
        live = LiveKeys(database, pepper, clock, limits or LimitSettings(), self._static)
        super().__init__(database, pepper, clock, live)
        self.tenants = TenantRegistry(database, clock, live)
        self.recognise_fresh = live.recognise_fresh
        self.subjects = live.subjects

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

    async def is_current(self) -> bool:
        """Look whether the snapshot may be used on, in the event loop where it can; as `LiveKeys.is_current`."""
        return await self._live.is_current()

    def refresh(self) -> None:
        """Bring the snapshot up to date and write times of last use when they are due."""
        self._live.refresh()

    def flush(self) -> None:
        """Write the times of last use that are only in memory; call it at shutdown."""
        self._live.flush()

    # ------------------------------------------------------------------ limits

    @property
    def defaults(self) -> LimitSettings:
        """The limits of keys that have none of their own."""
        return self._live.defaults

    def set_defaults(self, limits: LimitSettings) -> None:
        """Put other limits in the place of the server's defaults, for requests that begin from now on.

        Raises:
            errors.ConfigError: The time zone does not exist; nothing is changed.
        """
        self._live.set_defaults(limits)

    # ------------------------------------------------------------------ looking after

    def authority(self, principal: Principal) -> Authority:
        """Tell what an administrator may do with keys; given as `by` to the methods that change something.

        Raises:
            errors.Unauthenticated: The key was revoked since it was recognised.
        """
        return self._live.authority(principal)

    def show(self, key_id: str, *, by: Authority | None = None) -> KeyRecord:
        """Show one key, a revoked one too.

        Raises:
            errors.NotFound: There is no such key, or none that `by` sees.
        """
        static = self._static.show(key_id)
        if static is not None and (by is None or by.sees(static.tenant)):
            return static
        self.flush()
        with self._database.read() as connection:
            return self._found(connection, key_id, by)

    def page(
        self, which: Which, limit: int, offset: int = 0, *, by: Authority | None = None
    ) -> tuple[list[KeyRecord], int]:
        """List keys, static ones and then oldest first, and count all that fit.

        Those of tenants that `by` does not see fit nothing.
        """
        self.flush()
        if by is not None and not by.is_operator:
            if which.tenant not in (None, by.tenant):
                return [], 0
            which = replace(which, tenant=by.tenant)
        static = [record for record in self._static.records if which.fits(record)]
        first = static[offset : offset + limit]
        with self._database.read() as connection:
            rest, total = rows.page(
                connection, which, self._clock.now(), limit - len(first), max(offset - len(static), 0)
            )
        return first + rest, len(static) + total

    def list_keys(self, user: str | None = None, tenant: str | None = None) -> list[dict[str, object]]:
        """List keys that are not revoked, as `page` does, without anything that would help to guess one.

        Returns:
            Dicts as `describe` makes them.
        """
        self.flush()
        with self._database.read() as connection:
            records = [*self._static.records, *rows.live(connection)]
        return [
            self.describe(record)
            for record in records
            if user in (None, record.user) and tenant in (None, record.tenant)
        ]

    def describe(self, record: KeyRecord) -> dict[str, object]:
        """Show a record as people see it.

        Returns:
            `id`, `prefix`, `source` (`stored` or `static`), `tenant`, `user_id`, `description`, `scopes` (sorted list),
            `status` (`active`, `expired` or `revoked`), `created_at`, `expires_at`, `revoked_at`, `last_used`,
            `replaced_by`, `account`, `limits` and `quota` as they are set, `effective_limits` and `effective_quota`
            with the server's defaults filled in.
        """
        return listing.key(record, self.defaults, self._clock.now())

    def describe_tenant(self, record: TenantRecord) -> dict[str, object]:
        """Show a tenant as people see it: `name`, `key_count`, `limits`, `quota`, `effective_quota`, `updated_at`."""
        return listing.tenant(record, self.defaults)

    def _load_keys(self) -> list[dict[str, object]]:
        """Show the stored rows as they are: digests and prefixes, never a key."""
        with self._database.read() as connection:
            return [asdict(record) for record in rows.live(connection)]
