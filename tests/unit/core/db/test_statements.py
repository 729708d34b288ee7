import pytest

from trainyard.core.db import statements
from trainyard.core.ledger.store import rows


@pytest.mark.parametrize(
    ("sql", "wide"),
    [
        ("INSERT INTO t (a, b) VALUES (?, ?)", "INSERT INTO t (a, b) VALUES (?, ?), (?, ?), (?, ?)"),
        (
            "INSERT INTO t (a) VALUES (?) ON CONFLICT (a) DO NOTHING",
            "INSERT INTO t (a) VALUES (?), (?), (?) ON CONFLICT (a) DO NOTHING",
        ),
        ("INSERT INTO t (a) VALUES (?) ON CONFLICT (a) DO UPDATE SET a = ?", None),  # a parameter behind the rows
        ("INSERT INTO t (a, b) VALUES (?, 1)", None),
        ("INSERT INTO t (a) VALUES (?) RETURNING a", None),
        ("INSERT INTO t (a) SELECT ?", None),
        ("UPDATE t SET a = ? WHERE b = ?", None),
    ],
)
def test_a_statement_that_adds_one_row_can_add_three(sql: str, wide: str | None) -> None:
    assert statements.widened(sql, 3) == wide


def test_rows_of_usage_are_added_many_at_once() -> None:
    wide = statements.widened(statements.translated(rows.INSERT, "?").sql, 2)
    assert wide is not None
    assert wide.count("?") == 2 * 16
