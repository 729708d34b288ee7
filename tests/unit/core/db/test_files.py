"""What becomes of database files that cannot be used."""

from pathlib import Path

import pytest

from trainyard.core import errors
from trainyard.core.db import Database


def test_a_file_that_is_no_database_is_a_startup_error(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(b"this is not a database" * 1000)
    database = Database(f"sqlite:///{tmp_path / 'a.db'}")
    with pytest.raises(errors.StartupError, match="file is not a database") as caught:
        database.migrate()
    assert caught.value.code == "database_unusable"
    database.close()


def test_a_directory_that_is_missing_is_a_startup_error(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'none' / 'a.db'}")
    with pytest.raises(errors.StartupError, match="unable to open database file"):
        database.migrate()
    database.close()
