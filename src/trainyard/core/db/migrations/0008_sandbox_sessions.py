"""Sessions of the sandbox with their files and states, and what their bytes are named by."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Make the six tables of the sandbox."""
    _make_sessions()
    _make_files()
    _make_states()
    _make_bytes()


def _make_sessions() -> None:
    op.create_table(
        "sandbox_sessions",
        sa.Column("id", sa.String(21), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("entity_id", sa.String(128)),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("resource_id", sa.String(256)),
        sa.Column("version", sa.String(128)),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("used_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("holder", sa.String(128)),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.Column("lease_until", sa.Double),
        sa.Column("wanted", sa.String(16)),
        sa.PrimaryKeyConstraint("id", name="pk_sandbox_sessions"),
    )
    for columns in (["tenant", "owner", "entity_id", "used_at"], ["expires_at"], ["holder"]):
        op.create_index(f"ix_sandbox_sessions_{'_'.join(columns)}", "sandbox_sessions", columns)


def _make_files() -> None:
    op.create_table(
        "sandbox_files",
        sa.Column("id", sa.String(21), nullable=False),
        sa.Column("session_id", sa.String(21), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("path_hash", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("role", sa.String(8), nullable=False),
        sa.Column("is_read_only", sa.Boolean, nullable=False),
        sa.Column("content_type", sa.String(255), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("modified_at", sa.Double, nullable=False),
        sa.Column("origin", sa.String(128)),
        sa.PrimaryKeyConstraint("id", name="pk_sandbox_files"),
        sa.UniqueConstraint("session_id", "path_hash", name="uq_sandbox_files_session_id_path_hash"),
    )


def _make_states() -> None:
    op.create_table(
        "sandbox_states",
        sa.Column("session_id", sa.String(21), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("flavor", sa.String(8), nullable=False),
        sa.Column("kept", sa.JSON, nullable=False),
        sa.Column("dropped", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_sandbox_states"),
    )


def _make_bytes() -> None:
    op.create_table(
        "sandbox_tenants",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("tenant", name="pk_sandbox_tenants"),
    )
    op.execute("INSERT INTO sandbox_tenants (tenant, stored_bytes) VALUES ('', 0)")  # no tenant: a lock for all of them
    op.create_table(
        "sandbox_blobs",
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        sa.Column("names", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "sha256", name="pk_sandbox_blobs"),
    )
    op.create_index("ix_sandbox_blobs_sha256", "sandbox_blobs", ["sha256"])
    op.create_table(
        "sandbox_doomed",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("doomed_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_sandbox_doomed"),
    )
