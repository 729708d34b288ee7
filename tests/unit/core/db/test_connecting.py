import sys
import traceback

import pytest
from sqlalchemy.exc import ArgumentError, OperationalError

from trainyard.core import errors
from trainyard.core.db import Database, connecting


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("nonsense:hunter2", "database.url is not a URL"),
        ("postgresql://user:a@hunter2:b@host:hunter2/name", "with %40 for @"),
        ("mysql://user:hunter2@host/name", "database.url names 'mysql'"),
        ("sqlite://", "a SQLite database in memory"),
        ("sqlite:///:memory:", "a SQLite database in memory"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_with_one_that_can(url: str, says: str) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        Database(url)
    assert says in caught.value.message
    assert "sqlite:///path/to/file.db" in caught.value.message
    assert caught.value.param == "database.url"
    assert "hunter2" not in "".join(traceback.format_exception(caught.value, chain=True))


def test_a_missing_driver_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)  # how Python marks a module that cannot be imported
    with pytest.raises(errors.ConfigError, match=r"pip install 'trainyard\[postgres\]'"):
        Database("postgresql://localhost/name")


def test_a_reason_is_one_line_without_the_statement() -> None:
    cause = Exception("disk\n  is full")
    assert connecting.reason(OperationalError("INSERT secret", {}, cause)) == "disk is full"
    assert connecting.reason(ArgumentError("")) == "ArgumentError"
