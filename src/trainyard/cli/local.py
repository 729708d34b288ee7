"""The data directory without a server: for the commands that look after it."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from trainyard.core import opening, settings
from trainyard.core.clock import SystemClock
from trainyard.core.db import Database
from trainyard.core.keys import APIKeyManager


@contextmanager
def database(effective: settings.Settings) -> Iterator[Database]:
    """Open the database of the settings, its directory made when absent; the schema is left as it is."""
    with closing(opening.database(effective)) as opened:
        yield opened


@contextmanager
def keys(data_dir: Path | None, config_file: Path | None) -> Iterator[APIKeyManager]:
    """Open the keys of a data directory, the schema brought up to date; a running server sees changes in a second."""
    effective = settings.load({"data_dir": data_dir}, config_file)
    with database(effective) as opened:
        opened.migrate()
        yield opening.keys(effective, opened, SystemClock())
