"""Answers that were computed before."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "serving_cache",
        sa.Column("key", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_serving_cache"),
    )
    op.create_index("ix_serving_cache_expires_at", "serving_cache", ["expires_at"])
    op.create_index("ix_serving_cache_created_at", "serving_cache", ["created_at"])
