"""Opening what the settings name: the secret, the database, the keys."""

import hashlib
import hmac

from trainyard.core.clock import Clock
from trainyard.core.datadir import DataDirectory
from trainyard.core.db import Database
from trainyard.core.keys import APIKeyManager, derive_pepper
from trainyard.core.settings import Settings


def database(effective: Settings) -> Database:
    """Open the database, directory and private file made when absent; the schema is left as it is."""
    data = DataDirectory(effective.data_dir)
    data.prepare()
    if effective.database.url is None and not data.database.exists():
        data.database.touch(mode=0o600)  # SQLite would take the umask's, in a directory that others may read
    return Database(effective.database_url, sync=effective.database.sync)


def keys(effective: Settings, opened: Database, clock: Clock) -> APIKeyManager:
    """Open the key store under the pepper and the default limits of this server."""
    return APIKeyManager(opened, derive_pepper(secret(effective)), clock, effective.limits)


def signing_key(effective: Settings) -> bytes:
    """Derive the key under which download links are signed."""
    return hmac.new(secret(effective), b"trainyard download links 1", hashlib.sha256).digest()


def secret(effective: Settings) -> bytes:
    """Read the configured secret, or the one of the data directory, made at the first call."""
    if effective.secret is not None:
        return effective.secret.get_secret_value().encode()
    return DataDirectory(effective.data_dir).read_secret()
