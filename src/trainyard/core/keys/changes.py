"""The changes of a key's life, each in one transaction with the rules that allow it."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from sqlalchemy import Connection

from trainyard.core import errors
from trainyard.core.clock import Clock
from trainyard.core.db import Database
from trainyard.core.keys import format, minting
from trainyard.core.keys.authority import Authority
from trainyard.core.keys.bars import NO_LIMITS, NO_QUOTA, OwnLimits, OwnQuota
from trainyard.core.keys.live import LiveKeys, prove_pepper
from trainyard.core.keys.static import VARIABLE
from trainyard.core.keys.store import keys as rows
from trainyard.core.keys.types import ALL, KeyPatch, KeyRecord, NewKey


class KeyChanges:
    """Makes, changes, rotates and revokes keys.

    In every method `by` is the administrator who asks; None = whoever owns the data directory, who may do anything.
    """

    def __init__(self, database: Database, pepper: bytes, clock: Clock, live: LiveKeys) -> None:
        """Keep the parts.

        Args:
            database: Holds the rows.
            pepper: Under which keys are hashed.
            clock: For creation and expiry.
            live: Is told of every change.
        """
        self._database = database
        self._pepper = pepper
        self._clock = clock
        self._live = live

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
        limits: OwnLimits = NO_LIMITS,
        quota: OwnQuota = NO_QUOTA,
        by: Authority | None = None,
    ) -> NewKey:
        """Make a key.

        Args:
            user: Owner inside the tenant.
            description: For people, one line of at most 500 characters.
            tenant: The border of isolation.
            scopes: Names from `principal.SCOPES`, or `all`.
            expires_at: Unix time in seconds, in the future; None = never.
            limits: Of its own.
            quota: Of its own.
            by: Who asks.

        Raises:
            errors.InvalidRequest: One of these is unusable; `param` names it.
            errors.Forbidden: As `Authority.check_made`.
            errors.StartupError: The database belongs to another pepper.
        """
        new = self._mint(user, description, tenant, format.read_scopes(scopes), expires_at, limits, quota)
        if by is not None:
            by.check_made(new.record)
        prove_pepper(self._database, self._pepper)
        with self._database.begin() as connection:
            rows.insert(connection, new.record)
        self._live.reload()
        return new

    def create_first_admin(self, user: str = "admin", *, tenant: str = "default") -> NewKey | None:
        """Make a key of all scopes when no key was ever made here; None otherwise. One of many processes wins."""
        new = self._mint(user, "made at first start", tenant, frozenset(ALL), None, NO_LIMITS, NO_QUOTA)
        prove_pepper(self._database, self._pepper)
        with self._database.begin() as connection:
            rows.lock(connection)
            if rows.count(connection) > 0:
                return None
            rows.insert(connection, new.record)
        self._live.reload()
        return new

    def update(self, key_id: str, patch: KeyPatch, *, by: Authority | None = None) -> KeyRecord:
        """Change a key; what the patch does not name stays.

        Raises:
            errors.NotFound: There is no such key, or none that `by` sees.
            errors.Conflict: It was revoked (`key_revoked`) or rotated (`key_already_rotated`), or it is the last that
                can administer the tenant (`last_admin_key`).
            errors.InvalidRequest: A value is unusable; `param` names it.
            errors.Forbidden: As `Authority.check_changed`.
        """

        def change(before: KeyRecord) -> KeyRecord:
            after = minting.patch(_changeable(before), patch, self._clock.now())
            if by is not None:
                by.check_changed(before, after)
            return after

        return self._change(key_id, change, by)

    def revoke(self, key_id: str, *, by: Authority | None = None) -> KeyRecord:
        """End a key for good; a key that was revoked before stays as it is.

        Raises:
            errors.NotFound: There is no such key, or none that `by` sees.
            errors.Conflict: It is the last that can administer the tenant (code `last_admin_key`).
        """

        def change(before: KeyRecord) -> KeyRecord:
            return before if before.revoked_at is not None else replace(before, revoked_at=self._clock.now())

        return self._change(key_id, change, by)

    def revoke_key(self, key_or_id: str) -> bool:
        """End a key for good, given in full or by its id; False when there is no such live key."""
        try:
            with self._database.read() as connection:
                is_live = self._found(connection, key_or_id, None).revoked_at is None
        except errors.NotFound:
            return False
        self.revoke(key_or_id)
        return is_live

    def rotate_key(self, key_id: str, overlap_s: float = 0.0, *, by: Authority | None = None) -> NewKey:
        """Put a new key in the place of one; both work for `overlap_s` seconds.

        The new key has the owner, scopes, limits and quota of the old one, and its account, so that it goes on with
        what the old one has consumed. It has no expiry of its own unless the old one had: then it keeps that moment.

        Raises:
            errors.NotFound: There is no such live key, or none that `by` sees.
            errors.Conflict: It was rotated before (code `key_already_rotated`) or has expired (`key_expired`).
            errors.InvalidRequest: overlap_s is negative.
            errors.Forbidden: As `Authority.check_made`, since who rotates a key learns it.
        """
        now, overlap_s = self._clock.now(), minting.read_overlap(overlap_s)
        with self._database.begin() as connection:
            rows.lock(connection)
            old = _rotatable(self._found(connection, key_id, by), now)
            new = self._mint(
                old.user, old.description, old.tenant, old.scopes, old.expires_at, old.limits, old.quota, old.account_id
            )
            if by is not None:
                by.check_made(new.record)
            end = now + overlap_s if old.expires_at is None else min(old.expires_at, now + overlap_s)
            rows.write(connection, replace(old, expires_at=end, replaced_by=new.record.id))
            rows.insert(connection, new.record)
        self._live.reload()
        return new

    # ------------------------------------------------------------------ inside

    def _mint(
        self,
        user: str,
        description: str,
        tenant: str,
        scopes: frozenset[str],
        expires_at: float | None,
        limits: OwnLimits,
        quota: OwnQuota,
        account: str | None = None,
    ) -> NewKey:
        return minting.mint(
            self._clock,
            self._pepper,
            expires_at=expires_at,
            description=description,
            tenant=format.read_name(tenant, "tenant"),
            user=format.read_name(user, "user"),
            scopes=scopes,
            limits=limits,
            quota=quota,
            account=account,
        )

    def _change(self, key_id: str, change: Callable[[KeyRecord], KeyRecord], by: Authority | None) -> KeyRecord:
        with self._database.begin() as connection:
            rows.lock(connection)
            before = self._found(connection, key_id, by)
            after = change(before)
            if after != before:
                rows.write(connection, after)
                self._keep_an_admin(connection, before, after, by)
        self._live.reload()
        return after

    def _found(self, connection: Connection, key_id: str, by: Authority | None) -> KeyRecord:
        """Find a key that can be changed by its id; whoever owns the data directory can give the key itself too."""
        static = self._live.static(key_id)
        if static is not None and (by is None or by.sees(static.tenant)):
            raise errors.Conflict(
                f"{static.id} stands in {VARIABLE}; change it there and start the server again", code="static_key"
            )
        text = format.canonical(key_id) if by is None else None
        digest = format.digest(text, self._pepper) if text else None
        record = rows.find(connection, key_id=key_id, digest=digest) if format.can_be_id(key_id) else None
        if record is None or not (by is None or by.sees(record.tenant)):
            raise errors.NotFound(
                f"There is no key {format.safe_id(key_id)!r}; a list of the keys shows their ids", param="key_id"
            )
        return record

    def _keep_an_admin(self, connection: Connection, before: KeyRecord, after: KeyRecord, by: Authority | None) -> None:
        """Refuse to lock the administrator who asks out of his own tenant; after the write, so that it is counted."""
        now = self._clock.now()
        if by is None or before.tenant != by.tenant or not _administers(before, now) or _administers(after, now):
            return
        if rows.count_lasting_admins(connection, before.tenant, now) == 0:
            raise errors.Conflict(
                f"{before.id} is the last usable key with the scope 'admin' of the tenant '{before.tenant}'; make or "
                "rotate one first, or use `trainyard keys` on the data directory",
                code="last_admin_key",
            )


def _administers(record: KeyRecord, now: float) -> bool:
    return "admin" in record.scopes and record.is_valid(now) and record.replaced_by is None


def _changeable(record: KeyRecord) -> KeyRecord:
    if record.revoked_at is not None:
        raise errors.Conflict(f"{record.id} was revoked; create a new key", code="key_revoked")
    return _not_replaced(record)


def _rotatable(record: KeyRecord, now: float) -> KeyRecord:
    if record.revoked_at is not None:
        raise errors.NotFound(f"There is no live key {record.id!r}: it was revoked", param="key_id")
    if not _not_replaced(record).is_valid(now):
        raise errors.Conflict(f"{record.id} has expired; create a new key", code="key_expired")
    return record


def _not_replaced(record: KeyRecord) -> KeyRecord:
    if record.replaced_by is not None:
        raise errors.Conflict(
            f"{record.id} was replaced by {record.replaced_by}; name that one", code="key_already_rotated"
        )
    return record
