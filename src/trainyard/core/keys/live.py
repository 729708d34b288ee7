"""The keys that are valid now, kept in memory and in step with the database."""

import threading

import structlog

from trainyard.core import errors
from trainyard.core.clock import Clock
from trainyard.core.db import Database, epochs
from trainyard.core.keys import bars, format, guests
from trainyard.core.keys.authority import Authority
from trainyard.core.keys.snapshot import Snapshot
from trainyard.core.keys.static import StaticKeys
from trainyard.core.keys.store import EPOCH
from trainyard.core.keys.store import keys as rows
from trainyard.core.keys.store import tenants as tenant_rows
from trainyard.core.keys.types import KeyRecord
from trainyard.core.limits.types import Subject
from trainyard.core.principal import Principal
from trainyard.core.settings import LimitSettings

_log = structlog.get_logger("keys")

REFRESH_S = 0.5
"""Age at which the snapshot is compared with the epoch; a revocation elsewhere is seen within twice this."""

MISS_S = 0.01
"""Age at which the snapshot is compared with the epoch for a key that it does not know: a key that was just made
elsewhere works at once, and a flood of wrong ones costs at most a hundred one-row queries a second."""

FLUSH_S = 30.0
"""Times of last use are written at most this often."""

_UNKNOWN = "Invalid API key: it is unknown or was revoked"


class LiveKeys:
    """Recognises keys without a query, and knows when to look at the database again."""

    def __init__(
        self, database: Database, pepper: bytes, clock: Clock, defaults: LimitSettings, static: StaticKeys
    ) -> None:
        self._database = database
        self._pepper = pepper
        self._clock = clock
        self._defaults = _checked(defaults)
        self._static = static
        self._snapshot: Snapshot | None = None
        self._checked_at = 0.0
        self._refreshing = threading.Lock()
        self._used_at: dict[str, float] = {}
        self._flushed_at = clock.monotonic()

    def is_stale_for(self, key: str | None) -> bool:
        """Whether the database has to be read before this key is judged."""
        return self._is_older(REFRESH_S) or (self._is_older(MISS_S) and self._is_unknown(key))

    def recognise(self, key: str | None) -> Principal:
        """Tell whose key this is by the snapshot alone; never blocks.

        Raises:
            errors.Unauthenticated: Unknown, revoked, expired or malformed; the message does not tell which, but for
                an expired key, whose owner has proved to have it.
        """
        snapshot = self._snapshot
        if snapshot is None:
            raise errors.Unauthenticated(_UNKNOWN)
        return snapshot.principal(self._accepted(self._find(snapshot, key)))

    def recognise_fresh(self, key: str | None) -> Principal | None:
        """Do as `recognise` when the snapshot is new enough for this key; None when the database has to be read first.

        Raises:
            errors.Unauthenticated: As `recognise`.
        """
        snapshot, age_s = self._snapshot, self._clock.monotonic() - self._checked_at
        if snapshot is None or age_s >= REFRESH_S:
            return None
        proven = snapshot.proven(key) if key else None
        if proven is not None:
            self._accepted(proven[0])
            return proven[1]
        record = self._find(snapshot, key)
        if record is None and age_s >= MISS_S and format.canonical(key) is not None:
            return None
        return snapshot.prove(str(key), self._accepted(record))

    def subjects(self, principal: Principal) -> tuple[Subject, ...]:
        """Tell for whom the work of a key is limited, by the snapshot alone; never blocks.

        Raises:
            errors.Unauthenticated: The key was revoked since it was recognised.
        """
        snapshot = self._snapshot
        if snapshot is not None and guests.is_guest(principal.key_id):
            return snapshot.subjects_of_guest(principal)
        found = snapshot.subjects(principal.key_id) if snapshot else None
        if found is None:
            raise errors.Unauthenticated(_UNKNOWN)
        return found

    def authority(self, principal: Principal) -> Authority:
        """Tell what an administrator may do with keys.

        Raises:
            errors.Unauthenticated: The key was revoked since it was recognised.
        """
        record = self._snapshot.record(principal.key_id) if self._snapshot else None
        if record is None:
            raise errors.Unauthenticated(_UNKNOWN)
        return Authority(record, self.subjects(principal)[0], self._defaults)

    def static(self, key_id: str) -> KeyRecord | None:
        """Find a key of the settings by its id."""
        return self._static.show(key_id)

    @property
    def defaults(self) -> LimitSettings:
        """The limits of keys that have none of their own."""
        return self._defaults

    def set_defaults(self, defaults: LimitSettings) -> None:
        """Put other limits in the place of the server's defaults, for requests that begin from now on.

        Raises:
            errors.ConfigError: Its time zone does not exist; nothing is changed.
        """
        _checked(defaults)
        with self._refreshing:
            self._defaults = defaults
            if self._snapshot is not None:
                self._snapshot = self._snapshot.with_defaults(defaults)

    async def is_current(self) -> bool:
        """Look whether the snapshot is of now, and may be used on; false where `refresh` has to be called.

        Raises:
            errors.Unavailable: The database did not answer.
        """
        snapshot, looked_at = self._snapshot, self._clock.monotonic()
        if snapshot is None or looked_at - self._flushed_at >= FLUSH_S:
            return False
        found = await self._database.first(epochs.READ, name=EPOCH)
        if self._snapshot is not snapshot or snapshot.version != (found["version"] if found else 0):
            return False
        self._checked_at = looked_at
        return True

    def refresh(self) -> None:
        """Bring the snapshot up to date, and write times of last use when they are due."""
        with self._refreshing:
            if not self._is_older(MISS_S):  # another thread has just done it
                return
            with self._database.read() as connection:
                version = epochs.read_epoch(connection, EPOCH)
            if self._snapshot is None or self._snapshot.version != version:
                self._load()
            self._checked_at = self._clock.monotonic()
        if self._clock.monotonic() - self._flushed_at >= FLUSH_S:
            self.flush()

    def reload(self) -> None:
        """Read all keys now, after a change of our own."""
        with self._refreshing:
            self._load()
            self._checked_at = self._clock.monotonic()

    def flush(self) -> None:
        """Write the times of last use that are only in memory.

        When the database does not answer they are kept for the next time: nothing depends on them.
        """
        self._flushed_at = self._clock.monotonic()
        used_at, self._used_at = self._used_at, {}
        if not used_at:
            return
        try:
            with self._database.begin() as connection:
                rows.touch(connection, used_at)
        except errors.Unavailable as error:
            self._used_at = {**used_at, **self._used_at}
            _log.warning("last_use_not_written", reason=error.message)

    def _accepted(self, record: KeyRecord | None) -> KeyRecord:
        if record is None:
            raise errors.Unauthenticated(_UNKNOWN)
        now = self._clock.now()
        if not record.is_valid(now):
            raise errors.Unauthenticated("Invalid API key: it has expired; ask for a new one")
        if record.source == "stored":  # the others have no row for it
            self._used_at[record.id] = now
        return record

    def _find(self, snapshot: Snapshot, key: str | None) -> KeyRecord | None:
        """Find whose key a text is, in the settings and in the database."""
        text = format.canonical(key)
        stored = snapshot.find(text, self._pepper) if text else None
        return stored or (self._static.find(key) if key else None)

    def _is_older(self, age_s: float) -> bool:
        return self._snapshot is None or self._clock.monotonic() - self._checked_at >= age_s

    def _is_unknown(self, key: str | None) -> bool:
        if format.canonical(key) is None:
            return False
        return self._snapshot is None or self._find(self._snapshot, key) is None

    def _load(self) -> None:
        prove_pepper(self._database, self._pepper)
        with self._database.read() as connection:
            version = epochs.read_epoch(connection, EPOCH)
            records, tenants = rows.live(connection), tenant_rows.every(connection)
        self._snapshot = Snapshot(version, [*self._static.records, *records], tenants, self._defaults)


def _checked(defaults: LimitSettings) -> LimitSettings:
    try:
        bars.check_zone(defaults.time_zone, "limits.time_zone")
    except errors.InvalidRequest as error:
        raise errors.ConfigError(error.message, param=error.param) from error
    return defaults


def prove_pepper(database: Database, pepper: bytes) -> None:
    """Refuse a database whose digests were made under another pepper: every key would look invalid.

    Raises:
        errors.StartupError: Code `secret_mismatch`.
    """
    mine = format.fingerprint(pepper)
    with database.read() as connection:
        found = rows.pepper_fingerprint(connection)
    if found is None:
        with database.begin() as connection:
            rows.keep_pepper_fingerprint(connection, mine)
            found = rows.pepper_fingerprint(connection)
    if found != mine:
        raise errors.StartupError(
            "The keys in this database were made under another secret; set TRAINYARD_SECRET (or the file `secret` of "
            "the data directory) to the one that made them",
            code="secret_mismatch",
        )
