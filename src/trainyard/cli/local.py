"""The data directory without a server: for the commands that look after it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trainyard.core import settings
from trainyard.core.clock import SystemClock

if TYPE_CHECKING:
    from trainyard.core.db import Database
    from trainyard.core.keys import APIKeyManager


@contextmanager
def database(effective: settings.Settings) -> "Iterator[Database]":
    """Open the database of the settings, its directory made when absent; the schema is left as it is."""
    from trainyard import app  # loads the whole server; only these commands pay for it

    opened = app.open_database(effective)
    try:
        yield opened
    finally:
        opened.close()


@contextmanager
def keys(data_dir: Path | None, config_file: Path | None) -> "Iterator[APIKeyManager]":
    """Open the keys of a data directory, the schema brought up to date; a running server sees changes in a second."""
    from trainyard import app

    effective = settings.load({"data_dir": data_dir}, config_file)
    with database(effective) as opened:
        opened.migrate()
        yield app.open_keys(effective, opened, SystemClock())
