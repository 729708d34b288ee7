"""Every path through the history ends at what the stores declare, on both databases."""

import importlib
import pkgutil

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

import trainyard
from trainyard.core import errors
from trainyard.core.db import Database, metadata, migrate


def _import_all_stores() -> None:
    for module in pkgutil.walk_packages(trainyard.__path__, "trainyard."):
        if "store" in module.name.split("."):
            importlib.import_module(module.name)


def _differences(database: Database) -> list[object]:
    _import_all_stores()
    with database.read() as connection:
        options = {"version_table": migrate.VERSION_TABLE, "compare_type": True}
        return list(compare_metadata(MigrationContext.configure(connection, opts=options), metadata))


def test_the_history_is_one_line_of_numbers() -> None:
    assert migrate.revisions() == [f"{number:04}" for number in range(1, len(migrate.revisions()) + 1)]


def test_an_empty_database_becomes_what_the_stores_declare(database_url: str) -> None:
    database = Database(database_url)
    assert database.revision() is None
    database.migrate()
    assert database.revision() == migrate.revisions()[-1]
    assert _differences(database) == []
    database.migrate()  # a second time changes nothing
    database.close()


@pytest.mark.parametrize("start", migrate.revisions())
def test_each_earlier_revision_becomes_what_the_stores_declare(database_url: str, start: str) -> None:
    database = Database(database_url)
    database.migrate(start)
    assert database.revision() == start
    database.migrate()
    assert _differences(database) == []
    database.close()


def test_a_database_of_a_newer_version_is_left_alone(any_database: Database) -> None:
    with any_database.begin() as connection:
        connection.execute(text("UPDATE core_revision SET version_num = '9999'"))
    with pytest.raises(errors.SchemaTooNew) as caught:
        any_database.migrate()
    assert "9999" in caught.value.message
    assert caught.value.data == {"found": "9999", "newest_known": migrate.revisions()[-1]}
    assert any_database.revision() == "9999"
