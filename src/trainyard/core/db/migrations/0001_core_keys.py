"""Keys, epochs and facts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the three tables of the core."""
    op.create_table(
        "core_epochs",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_core_epochs"),
    )
    op.create_table(
        "core_facts",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("value", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_core_facts"),
    )
    op.create_table(
        "core_keys",
        sa.Column("id", sa.String(40), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("description", sa.String(500), nullable=False),
        sa.Column("prefix", sa.String(11), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("scopes", sa.String(255), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("revoked_at", sa.Double),
        sa.Column("last_used_at", sa.Double),
        sa.Column("replaced_by", sa.String(40)),
        sa.PrimaryKeyConstraint("id", name="pk_core_keys"),
        sa.UniqueConstraint("digest", name="uq_core_keys_digest"),
    )
    op.create_index("ix_core_keys_tenant_owner", "core_keys", ["tenant", "owner"])
