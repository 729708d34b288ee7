"""Opening what the settings name: the secret, the database, the keys, the blobs."""

import hashlib
import hmac
from urllib.parse import urlsplit

from trainyard.core.blobs import BlobStore, DirectoryBlobs
from trainyard.core.blobs.s3 import S3Blobs
from trainyard.core.blobs.s3_client import Place
from trainyard.core.clock import Clock
from trainyard.core.datadir import DataDirectory
from trainyard.core.db import Database
from trainyard.core.keys import APIKeyManager, derive_pepper
from trainyard.core.settings import BlobSettings, Settings


def database(effective: Settings) -> Database:
    """Open the database, directory and private file made when absent; the schema is left as it is."""
    data = DataDirectory(effective.data_dir)
    data.prepare()
    if effective.database.url is None and not data.database.exists():
        data.database.touch(mode=0o600)  # SQLite would take the umask's, in a directory that others may read
    return Database(effective.database_url, sync=effective.database.sync)


def keys(effective: Settings, opened: Database, clock: Clock) -> APIKeyManager:
    """Open the key store under the pepper and the default limits of this server."""
    static = None if effective.static_keys is None else effective.static_keys.get_secret_value()
    return APIKeyManager(opened, derive_pepper(secret(effective)), clock, effective.limits, static_keys=static)


def blobs(effective: Settings, part: str = "") -> BlobStore:
    """Open the store of contents: a bucket where the settings name one, else the directory.

    Args:
        effective: The settings.
        part: Name of a folder in it, for a capability that removes whatever none of its own rows names.

    Raises:
        errors.ConfigError: The client that it needs is not installed.
    """
    directory = DataDirectory(effective.data_dir).blobs / part
    if effective.blobs.url is None:
        return DirectoryBlobs(directory)
    return S3Blobs(_place(effective.blobs, effective.blobs.url, part), spool=directory)


def _place(given: BlobSettings, url: str, part: str) -> Place:
    parts, secret = urlsplit(url), given.secret_access_key
    return Place(
        bucket=parts.netloc,
        prefix=f"{parts.path}/{part}".strip("/").replace("//", "/"),
        endpoint=given.endpoint,
        region=given.region,
        keys=(given.access_key_id, secret.get_secret_value()) if given.access_key_id and secret else None,
        is_path_style=given.path_style if given.path_style is not None else given.endpoint is not None,
        timeout_s=given.timeout_s,
    )


def signing_key(effective: Settings) -> bytes:
    """Derive the key under which download links are signed."""
    return hmac.new(secret(effective), b"trainyard download links 1", hashlib.sha256).digest()


def secret(effective: Settings) -> bytes:
    """Read the configured secret, or the one of the data directory, made at the first call."""
    if effective.secret is not None:
        return effective.secret.get_secret_value().encode()
    return DataDirectory(effective.data_dir).read_secret()
