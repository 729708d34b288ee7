"""Limits and quotas of keys and tenants, and the account that rotated keys share."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def _limits() -> list[sa.Column[Any]]:
    return [
        sa.Column("requests", sa.Integer),
        sa.Column("tokens", sa.BigInteger),
        sa.Column("concurrency", sa.Integer),
        sa.Column("quota_tokens", sa.BigInteger),
        sa.Column("quota_micros", sa.BigInteger),
        sa.Column("quota_zone", sa.String(64)),
        sa.Column("quota_day", sa.Integer),
        sa.Column("quota_reset_at", sa.Double),
    ]


def upgrade() -> None:
    """Give keys their columns and make the table of tenants that have limits."""
    for column in [sa.Column("account", sa.String(40)), *_limits()]:
        op.add_column("core_keys", column)
    op.create_index("ix_core_keys_account", "core_keys", ["account"])
    _find_accounts()
    op.create_table(
        "core_tenants",
        sa.Column("name", sa.String(128), nullable=False),
        *_limits(),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_core_tenants"),
    )


def _find_accounts() -> None:
    """Give the keys that rotations made before the account of the first key of their chain."""
    connection = op.get_bind()
    replaced = sa.text("SELECT id, replaced_by FROM core_keys WHERE replaced_by IS NOT NULL ORDER BY created_at, id")
    next_of = {row.id: row.replaced_by for row in connection.execute(replaced)}
    for first in next_of.keys() - set(next_of.values()):
        key_id = first
        while key_id in next_of:
            key_id = next_of[key_id]
            values = {"id": key_id, "account": first}
            connection.execute(sa.text("UPDATE core_keys SET account = :account WHERE id = :id"), values)
