"""What every test gets: a marker by its folder, databases, few threads, one log format."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before anything imports torch or numpy: tests share their cores with each other.
for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[_variable] = os.environ.get("TRAINYARD_TEST_THREADS", "1")

from trainyard.core.clock import FakeClock  # noqa: E402
from trainyard.core.db import Database  # noqa: E402
from trainyard.core.settings import LogSettings  # noqa: E402
from trainyard.core.telemetry import configure_logging  # noqa: E402

pytest_plugins = ["tests.services.postgres", "tests.services.redis", "tests.services.s3"]

_FOLDER_MARKERS = ("unit", "contract", "integration", "load", "chaos", "gpu")
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(_HERE):
            layer = item.path.relative_to(_HERE).parts[0]
            if layer in _FOLDER_MARKERS:
                item.add_marker(layer)


@pytest.fixture(scope="session", autouse=True)
def _plain_logs() -> None:
    configure_logging(LogSettings(level="warning", format="json"))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file at the newest revision, to be copied: that is ten times faster than to migrate."""
    path = tmp_path_factory.mktemp("migrated") / "trainyard.db"
    opened = Database(f"sqlite:///{path}")
    opened.migrate()
    opened.close()
    return path


@pytest.fixture
def database(tmp_path: Path, migrated_file: Path) -> Iterator[Database]:
    """An SQLite database at the newest revision."""
    opened = Database(f"sqlite:///{shutil.copy(migrated_file, tmp_path / 'trainyard.db')}")
    yield opened
    opened.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'trainyard.db'}"


@pytest.fixture
def any_database(database_url: str) -> Iterator[Database]:
    """A database of each kind at the newest revision."""
    opened = Database(database_url)
    opened.migrate()
    yield opened
    opened.close()
